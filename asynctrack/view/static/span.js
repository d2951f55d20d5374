// One span in full: its prompt beside its answer, its error, when its tokens came, raw JSON, and
// the same as a test.
import { html, useEffect, useState } from "./lib.js";
import { address, ask, useAnswer } from "./api.js";
import { Tokens } from "./charts.js";
import { bytes, dollars, number, seconds } from "./format.js";
import { Failed, kindOf } from "./parts.js";
import { Line, Whole, plainly } from "./text.js";

const TABS = { content: "content", attributes: "attributes", raw: "raw JSON" };

export function SpanDetail({ source, version, hash, tab = "content", setTab }) {
  const { answer: span, error, fresh } = useAnswer("span", source, version);
  if (error && !span) return html`<${Failed} error=${error} />`;
  if (!span) return html`<section class="card span" data-shown=""><p class="quiet">asking …</p></section>`;
  const now = TABS[tab] ? tab : "content";
  return html`<section class=${`card span kind-${kindOf(span.kind)} ${fresh ? "" : "stale"}`} aria-label="Span" data-shown=${fresh ? hash : ""}>
    <div class="bar"><i class="dot"></i><h2><${Line} text=${span.name || span.kind} /></h2><span class="badge"><${Line} text=${span.kind} /></span>
      <span class="facts">${span.outcome === "ok" ? "" : html`<span class=${`said ${span.outcome}`}>${span.said}${span.why && html` (<${Line} text=${span.why} />)`}</span> · `}${seconds(span.duration)}${span.orphan ? html` · <span title="It names a parent that nobody has seen">parent not known</span>` : ""}${span.model ? html` · <${Line} text=${span.model} />` : ""}${
        span.input_tokens === null && span.output_tokens === null ? "" : ` · ${number(span.input_tokens)} → ${number(span.output_tokens)} tokens${parts(span)}`}${span.cost === null ? "" : ` · ${dollars(span.cost)}`}</span>
      <span class="grow"></span>
      <div class="tabs small" role="tablist">${Object.entries(TABS).map(([name, text]) => html`<button key=${name} role="tab" aria-selected=${now === name} onClick=${() => setTab(name === "content" ? null : name)}>${text}</button>`)}</div>
      <${CopyCase} source=${source} /></div>
    ${now === "content" && html`<${Content} span=${span} source=${source} />`}
    ${now === "attributes" && html`<${Blocks} blocks=${span.extra} source=${{ ...source, side: "extra" }} nothing="no attributes, no metadata" />
      <p class="quiet ids">span <code><${Line} text=${span.span_id} /></code>${span.parent_span_id && html` below <code><${Line} text=${span.parent_span_id} /></code>${span.orphan && ", which nobody has seen"}`}
        ${span.tags.map((tag) => html` <span class="tag" key=${tag}><${Line} text=${tag} /></span>`)}</p>`}
    ${now === "raw" && html`<${Raw} source=${source} size=${span.bytes} />`}
  </section>`;
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
      <h4><${Line} text=${block.role} />${block.name && html` <span class="quiet"><${Line} text=${block.name} /></span>`}${block.tool_call_id && html` <small class="quiet"><${Line} text=${block.tool_call_id} /></small>`}${
        block.status === "error" && html` <span class="bad">error</span>`}</h4>
      ${block.parts.length ? block.parts.map((part, n) => html`<${Part} key=${n} part=${part} source=${source} />`) : html`<p class="quiet">empty</p>`}</div>`;
  }
  if (block.kind === "field") {
    return html`<div class="field"><h4><${Line} text=${block.name} /></h4><${Whole} text=${block.text} source=${source} /></div>`;
  }
  if (block.kind === "json") {
    return html`<div class="field">${block.name && html`<h4><${Line} text=${block.name} /></h4>`}<${Whole} text=${block.text} source=${source} class="mono" /></div>`;
  }
  if (block.kind === "image" || block.kind === "file") {
    return html`<div class="field">${block.name && html`<h4><${Line} text=${block.name} /></h4>`}<${Part} part=${block} source=${source} /></div>`;
  }
  if (block.kind === "heading") return html`<h4 class="quiet">${block.text}</h4>`;
  if (block.kind === "more") return html`<p class="quiet">… and ${number(block.count)} more: see the raw JSON</p>`;
  return html`<div class="message"><${Whole} text=${block.text} source=${source} /></div>`;
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
  const [note, setNote] = useState("");
  useEffect(() => {
    if (!note) return undefined;
    const timer = setTimeout(() => setNote(""), 2500);
    return () => clearTimeout(timer);
  }, [note]);
  const copy = async () => {
    try {
      const answer = await ask("case", source);
      setCode(answer.code);
      await navigator.clipboard.writeText(answer.code);
      setNote("copied");
    } catch {
      setNote("below, to copy by hand");
    }
  };
  return html`<button class="button" onClick=${copy}>copy as pytest case</button>
    <span class="quiet" role="status">${note}</span>
    ${code !== null && html`<div class="case"><button class="link" onClick=${() => setCode(null)}>close</button><${Whole} text=${{ text: code }} class="mono" /></div>`}`;
}
