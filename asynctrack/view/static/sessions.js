// The sessions of a run, or of all runs of an experiment; or its users.
import { html } from "./lib.js";
import { useAnswer } from "./api.js";
import { dollars, number, percent, short, when } from "./format.js";
import { FILTERS, Filters } from "./filters.js";
import { Crumbs, Failed, Pager, Scroll } from "./parts.js";
import { go, here, readRoute } from "./route.js";
import { Line } from "./text.js";

const HEADS = { last: "last turn", turns: "turns", failed: "failed", tokens: "tokens", cost: "cost" };

export function Sessions({ route, state }) {
  const { asked, place } = route;
  const of = { run: route.run, experiment: route.experiment };
  const filters = Object.fromEntries(FILTERS.map((name) => [name, asked[name]]));
  const version = route.run ? (state.run?.version ?? 0) : state.version;
  const { answer, error, fresh } = useAnswer("sessions", { ...of, ...filters, by: asked.by, sort: asked.sort, page: asked.page }, version);
  const facets = useAnswer(fresh ? "facets" : null, { ...of, ...filters }, version);
  const link = (change) => here([...place, "sessions"], { ...asked, page: null, ...change });
  // Changed is the address as it is by then; one that was left is not called back.
  const set = (change, replace = false) => {
    const now = readRoute(location.hash);
    if (now.page === "sessions" && now.place[1] === place[1]) go(here([...place, "sessions"], { ...now.asked, page: null, ...change }), { replace });
  };
  if (error && !answer) return html`<${Failed} error=${error} />`;
  if (!answer) return html`<p class="quiet">asking …</p>`;
  const { by, where } = answer;
  const sort = asked.sort ?? "last";
  const filtered = FILTERS.some((name) => asked[name]);
  const crumbs = [{ text: where.experiment, href: here(["experiment", where.experiment]) }, ...(where.run ? [{ text: where.run, href: here(place, filters) }] : [])];
  const back = new URLSearchParams(Object.entries(asked)).toString();
  const open = (one) => (by === "user" ? link({ by: null, user: one.id }) : here([...place, "session", one.id], { back }));
  const head = (name) => html`<th class=${name === "last" ? "" : "number"} aria-sort=${sort === name ? "descending" : "none"}><a href=${link({ sort: name })}>${HEADS[name]}${sort === name ? " ↓" : ""}</a></th>`;
  return html`<${Crumbs} parts=${[...crumbs, { text: by === "user" ? "users" : "sessions" }]} />
    <div class="bar title"><h1>${by === "user" ? "Users" : "Sessions"}</h1>
      <nav class="tabs" aria-label="What is listed"><a href=${link({ by: null })} aria-current=${by === "session" ? "page" : null}>by session</a><a href=${link({ by: "user" })} aria-current=${by === "user" ? "page" : null}>by user</a></nav>
      <span class="grow"></span><a class="button" href=${here(place, route.run ? filters : {})}>${route.run ? "traces" : "runs"}</a></div>
    <${Filters} asked=${asked} facets=${facets.answer} set=${set} />
    ${error && html`<${Failed} error=${error} />`}
    <section class=${`card ${fresh ? "" : "stale"}`} data-shown=${fresh ? route.hash : ""}>
      <div class="bar"><h2>${number(answer.total)} ${filtered ? "matching " : ""}${by === "user" ? (answer.total === 1 ? "user" : "users") : answer.total === 1 ? "session" : "sessions"}</h2>
        ${answer.without > 0 && html`<span class="quiet">${number(answer.without)} ${answer.without === 1 ? "trace names" : "traces name"} none</span>`}
        ${filtered && html`<a href=${here([...place, "sessions"], { by: asked.by })}>clear all filters</a>`}</div>
      <${Scroll} label=${by === "user" ? "Users" : "Sessions"}><table class="list sessions"><thead><tr><th>${by}</th>${by === "user" ? html`<th class="number">sessions</th>` : html`<th>users</th>`}${head("last")}${head("turns")}${head("failed")}${head("tokens")}${answer.priced && head("cost")}<th>feedback</th></tr></thead>
        <tbody>${answer.sessions.map((one) => html`<tr key=${one.id}><td class="name"><a href=${open(one)}><${Line} text=${one.id} /></a></td>
          ${by === "user" ? html`<td class="number" data-label="sessions">${number(one.sessions)}</td>` : html`<td class="users" data-label=${one.users.length ? "user" : null}>${one.users.map((user, n) => html`${n ? ", " : ""}<a key=${user} href=${link({ user })}><${Line} text=${user} /></a>`)}${one.user_count > one.users.length ? ` +${number(one.user_count - one.users.length)}` : ""}</td>`}
          <td class="time" data-label="last turn" title=${`first turn ${when(one.started)}`}>${when(one.last)}</td><td class="number" data-label="turns">${number(one.turns)}</td>
          <td class=${`number ${one.failed ? "bad" : ""}`} data-label="failed" title=${percent(one.failed, one.turns)}>${number(one.failed)}</td>
          <td class="number" data-label="tokens" title=${`in ${number(one.input_tokens)}; out ${number(one.output_tokens)}`}>${short(one.input_tokens + one.output_tokens)}</td>
          ${answer.priced && html`<td class="number" data-label="cost" title=${one.unpriced ? `without ${number(one.unpriced)} model calls whose price is not known` : null}>${dollars(one.cost)}${one.unpriced > 0 && one.cost !== null ? "+" : ""}</td>`}
          <td class="thumbs"><${Thumbs} feedback=${one.feedback} /></td></tr>`)}</tbody></table><//>
      ${!answer.sessions.length && html`<p class="quiet empty">${filtered ? `no ${by} matches` : `no trace names a ${by}: session_id, thread_id and user_id in the metadata of a chain do`}</p>`}
      ${answer.pages > 1 && html`<${Pager} page=${answer.page} pages=${answer.pages} more=${answer.page + 1 < answer.pages} link=${(page) => link({ page: page || null })} />`}
    </section>`;
}

// What was said, by name: how often, and its mean. Thumbs are thumbs.
export function Thumbs({ feedback }) {
  return feedback.map((one) => {
    const mean = one.mean === null ? "" : Number(one.mean.toPrecision(3));
    const thumbs = /thumb/i.test(one.name) && one.mean !== null ? (one.mean > 0.5 ? "👍" : "👎") : null;
    return html`<span class="badge thumb" key=${one.name} title=${`${one.count} × ${one.name}${one.mean === null ? "" : `, mean ${mean}`}`}>${thumbs && html`<span aria-hidden="true">${thumbs}</span>`} <${Line} text=${one.name} />${mean === "" ? "" : ` ${mean}`}${one.count > 1 ? html` <small>×${number(one.count)}</small>` : ""}</span>`;
  });
}
