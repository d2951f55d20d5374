// Where we are: the part of the address after #, which no server ever sees.
import { useLayoutEffect, useState } from "./lib.js";
import { query } from "./api.js";

export function here(path, parameters = {}) {
  const text = query(parameters);
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

const AGAIN = 250;
let latest = 0;

// Chromium ignores changes of the address after 200 in ten seconds (a key that is held down makes
// more): the last one is made as soon as it is let.
export function go(address, { replace = false } = {}) {
  const number = ++latest;
  const before = location.hash;
  change(address, replace);
  if (location.hash === before && before !== address) setTimeout(() => number === latest && location.hash === before && go(address, { replace }), AGAIN);
}

function change(address, replace) {
  if (replace) {
    history.replaceState(null, "", address);
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  } else location.hash = address;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function readRoute(hash) {
  const [path, text = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const asked = Object.fromEntries(new URLSearchParams(text));
  const [kind, id, what, trace] = path.split("/").map(decoded);
  if (kind === "run" && id && what === "trace" && trace) {
    return { hash, page: "trace", run: id, trace, asked, up: here(["run", id], asked.back ? Object.fromEntries(new URLSearchParams(asked.back)) : {}) };
  }
  // A list of sessions, and one of them: of a run, or of all runs of an experiment.
  if ((kind === "run" || kind === "experiment") && id && (what === "sessions" || (what === "session" && trace))) {
    const list = here([kind, id, "sessions"], asked.back ? Object.fromEntries(new URLSearchParams(asked.back)) : {});
    const page = what === "sessions" ? { page: "sessions", up: here([kind, id]) } : { page: "conversation", session: trace, up: list };
    return { hash, [kind]: id, place: [kind, id], asked, ...page };
  }
  if (kind === "run" && id) return { hash, page: "run", run: id, asked, up: "#/" };
  if (kind === "compare") return { hash, page: "compare", asked, up: "#/" };
  if (kind === "experiment" && id) return { hash, page: "home", experiment: id, asked, up: "#/" };
  return { hash, page: "home", asked };
}

export function useRoute() {
  const [route, setRoute] = useState(() => readRoute(location.hash));
  // Before the page is drawn, and once at the start: no change goes by unseen.
  useLayoutEffect(() => {
    const changed = () => setRoute(readRoute(location.hash));
    window.addEventListener("hashchange", changed);
    if (location.hash !== route.hash) changed();
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return route;
}
