// A run by tool, model, retriever and chain: which fails most and of what, which is slow, what it costs.
import { html, useState } from "./lib.js";
import { dollars, number, percent, seconds, short } from "./format.js";
import { Scroll } from "./parts.js";
import { Line } from "./text.js";

const FEW = 10;
// What a component is called in the filters: a model by its own name, all others by their span's.
const chosenBy = (one) => (one.kind === "model" ? { model: one.name } : { name: one.name });
export const shortError = (type) => type.split(".").pop() || "error";

export function Components({ answer, stale, hash, link }) {
  const [all, setAll] = useState(false);
  const { components, priced } = answer;
  if (!components.length) return null;
  // Roots come first: what is in them stands below, those that fail most before the others.
  const shown = all ? components : components.slice(0, FEW);
  const streams = components.some((one) => one.first_p50 !== null);
  return html`<details class=${`card components ${stale ? "stale" : ""}`} data-shown=${hash} open><summary>Chains, models, tools, retrievers <small>${number(components.length)}</small></summary>
    <${Scroll} label="By component"><table class="plain"><thead><tr><th>kind</th><th>name</th><th class="number">calls</th><th class="number">failed</th><th>errors</th><th class="number">p50</th><th class="number">p95</th>
      ${streams && html`<th class="number" title="From the start of the call, or of the trace, to the first token">first token p50</th><th class="number">p95</th>`}<th class="number">tokens in</th><th class="number">out</th>${priced && html`<th class="number">cost</th>`}</tr></thead>
    <tbody>${shown.map((one) => html`<tr key=${`${one.kind} ${one.name}`}><td class="quiet">${one.kind}</td><td><a href=${link(chosenBy(one))} title="Traces with it"><${Line} text=${one.name} /></a></td><td class="number">${number(one.calls)}</td>
      <td class="number">${one.failed ? html`<a class="bad" href=${link({ ...chosenBy(one), ended: "error" })} title="Traces in which it failed">${number(one.failed)} <small>${percent(one.failed, one.calls)}</small></a>` : "0"}</td>
      <td class="errors">${one.errors.map(([type, count], n) => html`${n ? ", " : ""}<a key=${type} href=${link({ ...chosenBy(one), ended: "error", error: type || null })} title="Traces in which it failed so"><${Line} text=${shortError(type)} /></a> <small>${number(count)}</small>`)}</td>
      <td class="number">${seconds(one.p50)}</td><td class="number">${seconds(one.p95)}</td>${streams && html`<td class="number">${seconds(one.first_p50)}</td><td class="number">${seconds(one.first_p95)}</td>`}
      <td class="number" title=${number(one.input_tokens)}>${short(one.input_tokens)}</td><td class="number" title=${number(one.output_tokens)}>${short(one.output_tokens)}</td>${priced && html`<td class="number">${dollars(one.cost)}</td>`}</tr>`)}</tbody></table><//>
    ${shown.length < components.length && html`<button class="link more" onClick=${() => setAll(true)}>all ${number(components.length)}</button>`}</details>`;
}
