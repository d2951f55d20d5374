// A conversation: its turns in order, as they were said; each leads to its trace.
import { html, useEffect } from "./lib.js";
import { useAnswer } from "./api.js";
import { date, dollars, number, seconds, short, time, when } from "./format.js";
import { Crumbs, Failed, Pager, Recovered, Status } from "./parts.js";
import { here } from "./route.js";
import { Thumbs } from "./sessions.js";
import { Line, visible } from "./text.js";

export function Conversation({ route, state }) {
  const { asked, place, session } = route;
  const version = route.run ? (state.run?.version ?? 0) : state.version;
  const { answer, error, fresh } = useAnswer("conversation", { run: route.run, experiment: route.experiment, session, page: asked.page }, version);
  // A link to one turn shows it.
  useEffect(() => {
    if (answer && asked.turn) document.getElementById(`turn-${asked.turn}`)?.scrollIntoView({ block: "center" });
  }, [Boolean(answer), asked.turn]);
  const reading = route.run ? state.run && state.run.phase !== "ready" : state.reading;
  if (error && !answer) return reading ? html`<p class="quiet">not read yet: it comes with the rest …</p>` : html`<${Failed} error=${error} />`;
  if (!answer) return html`<p class="quiet">asking …</p>`;
  const { where, list } = answer;
  const link = (change) => here([...place, "session", session], { ...asked, turn: null, page: null, ...change });
  const several = answer.runs > 1;
  const crumbs = [{ text: where.experiment, href: here(["experiment", where.experiment]) }, ...(where.run ? [{ text: where.run, href: here(place) }] : []), { text: "sessions", href: route.up }];
  return html`<${Crumbs} parts=${[...crumbs, { text: session }]} />
    <div class="bar title"><h1><${Line} text=${session} /></h1>
      <span class="facts"><b>${number(answer.turns)}</b> ${answer.turns === 1 ? "turn" : "turns"}${answer.failed_turns ? html` · <b class="bad">${number(answer.failed_turns)} failed</b>` : ""}${
        answer.input_tokens + answer.output_tokens ? html` · <span title=${`in ${number(answer.input_tokens)}; out ${number(answer.output_tokens)}`}>${short(answer.input_tokens + answer.output_tokens)} tokens</span>` : ""}${answer.cost === null ? "" : ` · ${dollars(answer.cost)}`}${
        several ? ` · ${number(answer.runs)} runs` : ""}</span>
      ${answer.users.map((user) => html`<a class="badge" key=${user} href=${here([...place, "sessions"], { user })} title="All sessions of this user">user <${Line} text=${user} /></a>`)}</div>
    ${error && html`<${Failed} error=${error} />`}
    <ol class=${`conversation ${fresh ? "" : "stale"}`} data-shown=${fresh ? route.hash : ""}>${list.map((turn, n) => html`<${Turn} key=${`${turn.run_id}/${turn.trace_id}`} turn=${turn} before=${list[n - 1]} several=${several}
        here=${link({ page: answer.page || null, turn: turn.number })} chosen=${String(turn.number) === asked.turn} back=${asked.back} />`)}</ol>
    ${answer.pages > 1 && html`<${Pager} page=${answer.page} pages=${answer.pages} more=${answer.page + 1 < answer.pages} link=${(page) => link({ page: page || null })} />`}`;
}

function Turn({ turn, before, several, here: own, chosen }) {
  const day = date(turn.start);
  return html`<li class=${`turn ${chosen ? "chosen" : ""}`} id=${`turn-${turn.number}`}>
    ${turn.start !== null && (!before || date(before.start) !== day) && html`<p class="day quiet">${day}</p>`}
    <div class="asked"><${Said} text=${turn.asked} length=${turn.asked_length} who=${turn.user_id || "user"} /></div>
    <div class=${`answered ${turn.outcome}`}>
      ${(turn.answered || turn.outcome === "ok") && html`<${Said} text=${turn.answered} length=${turn.answered_length} who=${turn.name} />`}
      ${turn.error && html`<p class="bad"><b>${turn.said}</b>${turn.error_span && html` in <${Line} text=${turn.error_span} />`}: <${Line} text=${turn.error} /></p>`}
      ${turn.asks && html`<p class="said interrupted">${turn.said}: <${Line} text=${turn.asks} /></p>`}
      ${turn.outcome !== "ok" && !turn.error && !turn.asks && html`<p class=${`said ${turn.outcome}`}>${turn.said}</p>`}</div>
    <p class="about quiet"><a href=${own} aria-label=${`Turn ${turn.number}: a link to it`}>${number(turn.number)}</a> · <${Status} outcome=${turn.outcome} said=${turn.said} /> ${turn.said} · <span title=${when(turn.start)}>${time(turn.start)}</span> · ${seconds(turn.duration)}${
      turn.input_tokens + turn.output_tokens ? ` · ${short(turn.input_tokens + turn.output_tokens)} tokens` : ""}${turn.cost === null ? "" : ` · ${dollars(turn.cost)}`} · ${
      turn.run_id && html`<a class="trace-link" href=${here(["run", turn.run_id, "trace", turn.trace_id])}>trace</a>`}${several && html` in <${Line} text=${turn.run} />`} <${Recovered} count=${turn.recovered} /> <${Thumbs} feedback=${turn.feedback} />${
      turn.complete ? "" : html` <span class="badge open" title="Events of it are not there">not whole</span>`}</p></li>`;
}

function Said({ text, length, who }) {
  return html`<h2 class="who"><${Line} text=${who} /></h2>${text ? html`<div class="logged" dir="auto">${visible(text)}</div>` : html`<p class="quiet">nothing that is a text</p>`}${
    length > text.length && html`<p class="quiet">… ${number(length - text.length)} characters more in its trace</p>`}`;
}
