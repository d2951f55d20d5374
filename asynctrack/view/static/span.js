// One span in full: its prompt beside its answer, its error, when its tokens came, raw JSON, and
// the same as a test.
import { html, useState } from "./lib.js";
import { address, ask, download, useAnswer } from "./api.js";
import { Tokens } from "./charts.js";
import { Copy } from "./copy.js";
import { bytes, dollars, number, seconds } from "./format.js";
import { Failed, kindOf } from "./parts.js";
import { Line, plainly } from "./text.js";
import { AsMarkdown, Whole, wholeText } from "./whole.js";

const TABS = { content: "content", attributes: "attributes", raw: "raw JSON" };

// `times` is what the waterfall knows of it: self time, and its share of the critical path.
export function SpanDetail({ source, version, hash, times, tab = "content", setTab, markdown, setMarkdown }) {
  const { answer: span, error, fresh } = useAnswer("span", source, version);
  if (error && !span) return html`<${Failed} error=${error} />`;
  if (!span) return html`<section class="card span" data-shown=""><p class="quiet">asking …</p></section>`;
  const now = TABS[tab] ? tab : "content";
  return html`<section class=${`card span kind-${kindOf(span.kind)} ${fresh ? "" : "stale"}`} aria-label="Span" data-shown=${fresh ? hash : ""}>
    <div class="bar"><i class="dot"></i><h2><${Line} text=${span.name || span.kind} /></h2><span class="badge"><${Line} text=${span.kind} /></span>
      <span class="facts">${span.outcome === "ok" ? "" : html`<span class=${`said ${span.outcome}`}>${span.said}${span.why && html` (<${Line} text=${span.why} />)`}</span> · `}<b>${seconds(span.duration)}</b><${Share} times=${times} duration=${span.duration} />${span.orphan ? html` · <span title="It names a parent that nobody has seen">parent not known</span>` : ""}${span.model ? html` · <${Line} text=${span.model} />` : ""}${
        span.input_tokens === null && span.output_tokens === null ? "" : ` · ${number(span.input_tokens)} → ${number(span.output_tokens)} tokens${parts(span)}`}${span.cost === null ? "" : ` · ${dollars(span.cost)}`}</span></div>
    <div class="bar tools"><div class="tabs small" role="tablist" aria-label="What is shown of the span">${Object.entries(TABS).map(([name, text]) => html`<button key=${name} role="tab" aria-selected=${now === name} onClick=${() => setTab(name === "content" ? null : name)}>${text}</button>`)}</div>
      <button class="switch" aria-pressed=${markdown} title="Show texts as Markdown; links lead nowhere" onClick=${() => setMarkdown(!markdown)}>Markdown</button>
      <span class="grow"></span>
      <${Copy} what="the span's id" text="copy id" get=${() => span.span_id} />
      <${Copy} what="a link to this span" text="copy link" get=${() => linkTo(source.place)} />
      <${Copy} what="all that was logged, as JSON" text="copy JSON" get=${() => download(source)} />
      <${CopyCase} source=${source} /></div>
    <${AsMarkdown.Provider} value=${markdown}>
    ${now === "content" && html`<${Content} span=${span} source=${source} />`}
    ${now === "attributes" && html`<h3 class="unseen">attributes</h3><${Blocks} blocks=${span.extra} source=${{ ...source, side: "extra" }} nothing="no attributes, no metadata" />
      <p class="quiet ids">span <code><${Line} text=${span.span_id} /></code>${span.parent_span_id && html` below <code><${Line} text=${span.parent_span_id} /></code>${span.orphan && ", which nobody has seen"}`}
        ${span.tags.map((tag) => html` <span class="tag" key=${tag}><${Line} text=${tag} /></span>`)}</p>`}
    ${now === "raw" && html`<${Raw} source=${source} size=${span.bytes} />`}<//>
  </section>`;
}

// This address, with the span that is shown in it, wherever it was opened.
function linkTo(place) {
  const [before, text = ""] = location.href.split(/\?(.*)/s);
  const asked = new URLSearchParams(text);
  asked.set("span", place);
  return `${before}?${asked}`;
}

function Share({ times, duration }) {
  if (!times) return null;
  const critical = times.critical.reduce((sum, [from, to]) => sum + to - from, 0);
  return html`${times.self_time !== null && times.self_time !== duration && html` · <span title="In which none of the spans below it ran">itself <b>${seconds(times.self_time)}</b></span>`}${
    critical > 0 && html` · <span class="critical" title="So much of the trace's duration is decided by this span itself">critical <b>${seconds(critical)}</b></span>`}`;
}

// What is known of the parts of its tokens.
function parts(span) {
  const known = [[span.cache_read_tokens, "from the cache"], [span.cache_write_tokens, "into the cache"], [span.reasoning_tokens, "reasoning"]].filter(([tokens]) => tokens);
  return known.length ? ` (${known.map(([tokens, name]) => `${number(tokens)} ${name}`).join(", ")})` : "";
}

function Content({ span, source }) {
  const names = { chat_model: ["prompt", "answer"], llm: ["prompt", "answer"], tool: ["call", "result"], retriever: ["query", "documents"] }[span.kind] ?? ["input", "output"];
  return html`
    ${span.failure && html`<div class="failure" role="region" aria-label="Error">${span.failure.map((block, n) => html`<div key=${n} class=${block.name?.endsWith("traceback") ? "traceback" : ""}>
      <h3><${Line} text=${block.name ?? "error"} /></h3><${Whole} text=${block.text} source=${{ ...source, side: "error" }} class=${block.name?.endsWith("traceback") ? "mono" : ""} /></div>`)}</div>`}
    ${span.handed.length > 0 && html`<div class="handed" role="region" aria-label="Handed on"><h3>${span.cause === "handoff" ? "hands over" : "asks"}</h3><${Blocks} blocks=${span.handed} source=${{ ...source, side: "handed" }} /></div>`}
    ${span.stream && html`<${Stream} stream=${span.stream} length=${span.duration} />`}
    <div class="sides">
      <div class="side" aria-label=${names[0]}><h3>${names[0]}</h3><${Blocks} blocks=${span.inputs} source=${{ ...source, side: "inputs" }} nothing="nothing was logged" /></div>
      <div class="side" aria-label=${names[1]}><h3>${names[1]}${span.partial && html` <span class="partial">as far as it was streamed</span>`}</h3><${Blocks} blocks=${span.outputs} source=${{ ...source, side: "outputs" }} nothing=${span.outcome === "unfinished" ? "not there yet" : "nothing was logged"} /></div>
    </div>`;
}

function Stream({ stream, length }) {
  return html`<figure class="stream"><figcaption>${number(stream.count)} ${stream.count === 1 ? "token" : "tokens"} streamed
      <span class="facts">first after <b>${seconds(stream.first)}</b>${stream.per_second ? html` · <b>${stream.per_second.toFixed(stream.per_second < 10 ? 1 : 0)}</b> a second` : ""}${
        stream.median === null ? "" : html` · between two: median <b>${seconds(stream.median)}</b>, p95 <b>${seconds(stream.p95)}</b>, longest <b>${seconds(stream.longest)}</b>`}</span></figcaption>
    <${Tokens} stream=${stream} length=${length} /></figure>`;
}

function Blocks({ blocks, source, nothing }) {
  if (!blocks.length) return html`<p class="quiet">${nothing}</p>`;
  return blocks.map((block, n) => html`<${Block} key=${n} block=${block} source=${source} />`);
}

function Block({ block, source }) {
  if (block.kind === "message") {
    return html`<div class=${`message role-${["system", "human", "ai", "tool", "document", "prompt"].includes(block.role) ? block.role : "chat"}`}>
      <div class="head"><h4><${Line} text=${block.role} />${block.name && html` <span class="quiet"><${Line} text=${block.name} /></span>`}${block.tool_call_id && html` <small class="quiet"><${Line} text=${block.tool_call_id} /></small>`}${
        block.status === "error" && html` <span class="bad">error</span>`}</h4><${Copy} what="message" get=${() => told(block.parts, source)} /></div>
      ${block.parts.length ? block.parts.map((part, n) => html`<${Part} key=${n} part=${part} source=${source} />`) : html`<p class="quiet">empty</p>`}</div>`;
  }
  if (block.kind === "field") {
    return html`<div class="field"><div class="head"><h4><${Line} text=${block.name} /></h4><${Copy} what="text" get=${() => wholeText(block.text, source)} /></div><${Whole} text=${block.text} source=${source} /></div>`;
  }
  if (block.kind === "json") {
    return html`<div class="field"><div class="head">${block.name ? html`<h4><${Line} text=${block.name} /></h4>` : html`<span></span>`}<${Copy} what="JSON" get=${() => wholeText(block.text, source)} /></div><${Whole} text=${block.text} source=${source} class="mono" /></div>`;
  }
  if (block.kind === "image" || block.kind === "file") {
    return html`<div class="field">${block.name && html`<h4><${Line} text=${block.name} /></h4>`}<${Part} part=${block} source=${source} /></div>`;
  }
  if (block.kind === "heading") return html`<h4 class="quiet">${block.text}</h4>`;
  if (block.kind === "more") return html`<p class="quiet">… and ${number(block.count)} more: see the raw JSON</p>`;
  return html`<div class="message"><div class="head"><span></span><${Copy} what="text" get=${() => wholeText(block.text, source)} /></div><${Whole} text=${block.text} source=${source} /></div>`;
}

// A message as text: its parts one below the other.
async function told(parts, source) {
  const texts = await Promise.all(parts.map((part) => wholeText(part.text, source)));
  return parts.map((part, n) => (part.kind === "call" ? `${part.name}(${texts[n]})` : texts[n])).join("\n\n");
}

function Part({ part, source }) {
  if (part.kind === "call") {
    return html`<div class="call"><h5>${part.invalid ? "invalid call" : "calls"} <code><${Line} text=${part.name} /></code> <small class="quiet"><${Line} text=${part.id} /></small></h5>
      <${Whole} text=${part.text} source=${source} class="mono" /></div>`;
  }
  if (part.kind === "image") {
    const place = address("image", { ...source, number: part.number });
    return html`<${Image} key=${place} place=${place} text=${part.text} />`;
  }
  if (part.kind === "reasoning") return html`<details class="reasoning"><summary>reasoning</summary><${Whole} text=${part.text} source=${source} /></details>`;
  return html`<${Whole} text=${part.text} source=${source} class=${part.kind === "json" ? "mono" : ""} />`;
}

// The page holds no data of an image: the browser asks for it once it comes into sight. What cannot
// be shown is said.
function Image({ place, text }) {
  const [broken, setBroken] = useState(false);
  return html`<div class="picture">${!broken && html`<img loading="lazy" decoding="async" alt=${plainly(text.text)} src=${place} onError=${() => setBroken(true)} />`}
    <${Whole} text=${text} class="quiet" /></div>`;
}

function Raw({ source, size }) {
  const { answer, error } = useAnswer("raw", source);
  if (error) return html`<${Failed} error=${error} />`;
  if (!answer) return html`<p class="quiet">asking …</p>`;
  return html`<p class="quiet"><a href=${address("download", source)} download>download</a> ${bytes(size)}</p>
    ${answer.blocks.map((block, n) => html`<${Whole} key=${n} text=${block.text} source=${{ ...source, side: "raw" }} class="mono" />`)}`;
}

function CopyCase({ source }) {
  const [code, setCode] = useState(null);
  const get = async () => {
    const answer = await ask("case", source);
    setCode(answer.code);
    return answer.code;
  };
  return html`<${Copy} what="the span as a test" text="copy as pytest case" get=${get} />
    ${code !== null && html`<div class="case"><button class="link" onClick=${() => setCode(null)}>close</button><${Whole} text=${{ text: code }} class="mono" /></div>`}`;
}
