// What the traces of a run are chosen by. Everything works by keyboard; the charts below are a
// second way to choose a range, with the pointer.
import { html, useEffect, useRef, useState } from "./lib.js";
import { date, number, time } from "./format.js";
import { Field, OUTCOMES } from "./parts.js";
import { plainly } from "./text.js";

export const FILTERS = ["text", "name", "model", "ended", "error", "outcome", "tag", "session", "user", "thread", "slower", "faster", "tokens", "since", "until"];

// What traces can be chosen by is not known yet, or there is none of it.
const NONE = { name: [], model: [], ended: [], error: [], tag: [], session: [], user: [] };
const PAUSE = 40;
const MOMENT = 800;

const cut = (text) => (text.length > 48 ? `${text.slice(0, 47)}…` : text);

export function Filters({ asked, facets: known, set }) {
  const facets = known ?? NONE;
  const [open, setOpen] = useState(false); // on a phone
  const timers = useRef({});
  // What is typed is asked for at once; of keys in quick succession the last one is.
  const typed = (name) => (event) => {
    const { value, validity } = event.target;
    if (validity.badInput) return; // a number that is not whole yet
    const before = timers.current[name];
    clearTimeout(before?.timer);
    const found = () => set({ [name]: value || null }, true);
    const quick = before && event.timeStamp - before.at < PAUSE;
    timers.current[name] = { at: event.timeStamp, timer: quick ? setTimeout(found, PAUSE) : null };
    if (!quick) found();
  };
  const choice = (name, title, values) => (values.length > 0 || asked[name]) && html`<select aria-label=${title} class=${asked[name] ? "set" : ""} value=${asked[name] ?? ""}
      onChange=${(event) => set({ [name]: event.target.value || null })}>
    <option value="">${title}</option>
    ${asked[name] && !values.some((one) => one.value === asked[name]) && html`<option value=${asked[name]}>${plainly(asked[name]).slice(0, 60)}</option>`}
    ${values.map((one) => html`<option key=${one.value} value=${one.value}>${cut(plainly(one.value))} (${number(one.traces)})</option>`)}</select>`;
  const amount = (name, before, after, step) => html`<label class=${asked[name] ? "set" : ""}>${before} <${Field} type="number" name=${name} min="0" step=${step} value=${asked[name]} onInput=${typed(name)} /> ${after}</label>`;
  // There may be any number of them: any can be typed, the most frequent ones are offered.
  const whose = (name, values) => (values.length > 0 || asked[name]) && html`<label class=${asked[name] ? "set" : ""}>${name} <${Field} type="text" class="whose-id" name=${name} autocomplete="off" spellcheck=${false} list=${`${name}-ids`} placeholder="any" value=${asked[name]}
      onChange=${(event) => set({ [name]: event.target.value.trim() || null })} /><datalist id=${`${name}-ids`}>${values.map((one) => html`<option key=${one.value} value=${one.value}>${number(one.traces)} ${one.traces === 1 ? "trace" : "traces"}</option>`)}</datalist></label>`;
  const chosen = FILTERS.filter((name) => name !== "text" && asked[name]).length;
  return html`<form class="filters card" role="search" onSubmit=${(event) => event.preventDefault()}>
    <${Field} type="search" aria-label="Search" autocomplete="off" spellcheck=${false} value=${asked.text} onInput=${typed("text")}
      placeholder='search prompts, answers, errors, names, ids, metadata; "words in a row"   /'
      title="All words must occur in a trace. Of one value the first 65,536 characters are searched, of one trace the first million." />
    <button type="button" class="filter-toggle" aria-expanded=${open} onClick=${() => setOpen(!open)}>filters${chosen > 0 ? ` (${chosen})` : ""}</button>
    <div class=${`filter-rest ${open ? "open" : ""}`}>
    <select aria-label="outcome of the trace" class=${asked.outcome ? "set" : ""} value=${asked.outcome ?? ""} onChange=${(event) => set({ outcome: event.target.value || null })}>
      <option value="">trace: any outcome</option>${Object.entries(OUTCOMES).map(([outcome, { called }]) => html`<option key=${outcome} value=${outcome}>trace: ${called}</option>`)}<option value="recovered">trace: with recovered errors</option></select>
    ${choice("tag", "any tag", facets.tag)}
    ${["name", "model", "ended", "error"].some((name) => facets[name].length || asked[name]) && html`<fieldset class="of-span" title="All of these hold for one and the same span of a trace"><legend>a span in it:</legend>${choice("name", "any name", facets.name)}${choice("model", "any model", facets.model)}
      ${choice("ended", "any ending", facets.ended)}${choice("error", "any error", facets.error)}</fieldset>`}
    ${whose("session", facets.session)}${whose("user", facets.user)}${asked.thread && whose("thread", [])}
    ${amount("slower", "slower than", "s", "any")}
    ${amount("faster", "faster than", "s", "any")}
    ${amount("tokens", "at least", "tokens", "1")}
    <span class="times"><${Moment} name="since" title="started from" value=${asked.since} set=${set} />
    <${Moment} name="until" title="to" value=${asked.until} set=${set} />
    ${(asked.since || asked.until) && html`<button type="button" class="chip" onClick=${() => set({ since: null, until: null })}>any time ✕</button>`}</span></div>
  </form>`;
}

const written = (value) => (value ? `${date(Number(value))}T${time(Number(value))}` : "");

// A point in time, to the second, in the browser's time zone. A date that is being typed is a date
// after each digit: it counts when it is left, with Enter, or when no key follows.
function Moment({ name, title, value, set }) {
  const field = useRef(null);
  const timer = useRef(null);
  const shown = written(value);
  useEffect(() => {
    if (field.current.value !== shown) field.current.value = shown;
  }, [shown]);
  const take = (replace) => {
    clearTimeout(timer.current);
    if (!field.current) return;
    const { value: text, validity } = field.current;
    // A part of it is not there yet; or it is what the address says, which may be more exact.
    if (validity.badInput || text === shown || (shown && text === shown.replace(/:00$/, ""))) return;
    const at = new Date(text).getTime() / 1e3;
    if (text && !(at >= 0)) return;
    set({ [name]: text ? String(at) : null }, replace);
  };
  const typed = () => {
    clearTimeout(timer.current);
    timer.current = setTimeout(take, MOMENT, true);
  };
  return html`<label class=${value ? "set" : ""}>${title} <input ref=${field} type="datetime-local" name=${name} step="1" onInput=${typed} onBlur=${() => take(false)}
    onKeyDown=${(event) => event.key === "Enter" && take(false)} /></label>`;
}
