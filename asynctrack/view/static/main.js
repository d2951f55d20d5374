// Which page is shown, and how far the index is.
import { html, render, useEffect, useLayoutEffect, useState } from "./lib.js";
import { ask, useAnswer } from "./api.js";
import { number } from "./format.js";
import { Line } from "./text.js";
import { Home } from "./home.js";
import { Run } from "./run.js";
import { Trace } from "./trace.js";
import { Compare } from "./compare.js";
import { Conversation } from "./conversation.js";
import { Sessions } from "./sessions.js";
import { useMarks } from "./marks.js";
import { go, here, useRoute } from "./route.js";

const MOMENT = 500;

// The state of the index, asked for every moment while somebody looks.
function useIndexState(run) {
  const [state, setState] = useState({ version: 0, runs: 0, reading: 1, live: 0, events: 0, total: 0, run: null });
  const [failed, setFailed] = useState(null);
  useEffect(() => {
    let timer = null;
    let over = false;
    const next = async () => {
      if (!document.hidden) {
        try {
          const answer = await ask("state", { run });
          if (over) return;
          setState(answer);
          setFailed(null);
        } catch (error) {
          if (over) return;
          setFailed(error.message);
        }
      }
      timer = setTimeout(next, MOMENT);
    };
    next();
    const shown = () => {
      if (document.hidden) return;
      clearTimeout(timer);
      next();
    };
    document.addEventListener("visibilitychange", shown);
    return () => {
      over = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, [run]);
  return [state, failed];
}

function Progress({ state }) {
  const { events, total, reading } = state.run && state.run.phase !== "ready" ? { ...state.run, reading: 1 } : state;
  if (!reading) return null;
  const share = total ? Math.min(1, events / total) : 0;
  return html`<span class="progress" role="status">
    <progress max="1" value=${share}></progress> reading events: ${number(events)}${total > events ? ` of ${number(total)}` : ""}</span>`;
}

const KEYS = [
  ["/", "search"],
  ["↑ ↓", "move in a list"],
  ["Enter", "open"],
  ["Esc", "one level up"],
  ["[ ]", "older, newer trace"],
  ["← →", "fold, unfold spans"],
  ["?", "this list"],
];

function Keys({ close }) {
  return html`<div class="veil" onClick=${close}><div class="keys" role="dialog" aria-label="Keys">
    <h2>Keys</h2><dl>${KEYS.map(([key, what]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl></div></div>`;
}

function App() {
  const route = useRoute();
  const run = route.run ?? null;
  const [state, failed] = useIndexState(run);
  useMarks(route.asked.text ?? (route.page === "trace" && route.asked.back ? new URLSearchParams(route.asked.back).get("text") : null));
  const [keys, setKeys] = useState(false);
  // At once: the next key must not meet the handler of what was shown before.
  useLayoutEffect(() => {
    const pressed = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const typing = event.target.closest("input, select, textarea");
      if (event.key === "Escape") {
        if (keys) setKeys(false);
        else if (typing) typing.blur();
        else if (route.up) go(route.up);
        return;
      }
      if (typing) return;
      if (event.key === "/") {
        const search = document.querySelector("input[type=search]");
        if (search) {
          event.preventDefault();
          search.focus();
          search.select();
        }
      } else if (event.key === "?") setKeys(!keys);
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, [keys, route.up]);
  const Page = { home: Home, run: Run, trace: Trace, compare: Compare, sessions: Sessions, conversation: Conversation }[route.page];
  return html`<header class="top">
      <a class="brand" href="#/"><img src="icon.svg" alt="" width="20" height="20" />asynctrack</a>
      <nav aria-label="Where you are" id="crumbs"></nav>
      <${Progress} state=${state} />
      ${failed && html`<span class="bad" role="alert">${failed}</span>`}
      <button class="link" title="Keys" onClick=${() => setKeys(true)}>?</button>
    </header>
    <main><${Page} key=${route.page + (route.run ?? route.experiment ?? "")} route=${route} state=${state} /></main>
    ${keys && html`<${Keys} close=${() => setKeys(false)} />`}`;
}

render(html`<${App} />`, document.getElementById("app"));
