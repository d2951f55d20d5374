// Where we are: the part of the address after #, which no server ever sees.
import { useEffect, useState } from "./lib.js";
import { query } from "./api.js";

export function here(path, parameters = {}) {
  const text = query(parameters);
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export function go(address, { replace = false } = {}) {
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
    return { page: "trace", run: id, trace, asked, up: here(["run", id], asked.back ? Object.fromEntries(new URLSearchParams(asked.back)) : {}) };
  }
  if (kind === "run" && id) return { page: "run", run: id, asked, up: "#/" };
  if (kind === "compare") return { page: "compare", asked, up: "#/" };
  if (kind === "experiment" && id) return { page: "home", experiment: id, asked, up: "#/" };
  return { page: "home", asked };
}

export function useRoute() {
  const [route, setRoute] = useState(() => readRoute(location.hash));
  useEffect(() => {
    const changed = () => setRoute(readRoute(location.hash));
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return route;
}
