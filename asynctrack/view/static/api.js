// Asks the server, and keeps what is shown until the next answer is there.
import { useLayoutEffect, useRef, useState } from "./lib.js";

export function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return new URLSearchParams(given).toString();
}

export function address(name, parameters) {
  return `api/${name}?${query(parameters)}`;
}

export async function ask(name, parameters, signal) {
  let response;
  for (let attempt = 1; response === undefined; attempt += 1) {
    try {
      response = await fetch(address(name, parameters), { signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      // Asked again at once: a connection that was kept may have been closed at that very moment.
      if (attempt === 2) throw new Error("The viewer does not answer: it may have been stopped.");
    }
  }
  if (response.status === 403) throw new Error(await response.text());
  const answer = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return { failed: `The viewer answered with status ${response.status}.` };
  });
  if (answer.failed) throw new Error(answer.failed);
  return answer;
}

// A file as text.
export async function download(source) {
  const response = await fetch(address("download", source));
  if (!response.ok) throw new Error(`The viewer answered with status ${response.status}.`);
  return response.text();
}

// The answer to a question: asked again when its parameters or `version` change. What was answered
// to the same question before stays until then; `fresh` says whether it is the answer to this one.
// Asked before the page is drawn: the server works meanwhile.
export function useAnswer(name, parameters, version = 0) {
  const key = name === null ? null : address(name, parameters);
  const [state, setState] = useState({ key: null, answer: null, error: null });
  const latest = useRef(0);
  useLayoutEffect(() => {
    if (key === null) return undefined;
    const number = ++latest.current;
    const controller = new AbortController();
    ask(name, parameters, controller.signal).then(
      (answer) => number === latest.current && setState({ key, answer, error: null }),
      (error) =>
        error.name !== "AbortError" &&
        number === latest.current &&
        setState((before) => ({ key, answer: before.key === key ? before.answer : null, error })),
    );
    return () => controller.abort();
  }, [key, version]);
  return { ...state, fresh: state.key === key };
}
