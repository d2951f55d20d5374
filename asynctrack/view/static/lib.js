// Preact, its hooks, and htm bound to it: everything a page is made of.
import { createContext, h, render, Fragment } from "./vendor/preact.js";
import { useCallback, useContext, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
import htm from "./vendor/htm.js";

export const html = htm.bind(h);
export { createContext, render, Fragment, useCallback, useContext, useEffect, useLayoutEffect, useMemo, useRef, useState };
