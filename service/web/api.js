/** The service, as this page asks it. What is sent and answered lives in memory alone. */

import { by } from './dom.js';

let key = '';
let asking = null;

/** An answer that is an error: problem+json as an exception. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `The service answered ${status}.`);
    this.status = status;
    this.errors = body.errors ?? [];
  }
}

/** There was no answer, or not the whole of it. */
export class Away extends Error {}

/**
 * Ask, once; where a key is needed, with the one that the user gives. Throws Problem, Away and AbortError.
 * @param {(response: Response) => unknown} read what is wanted of a good answer
 */
export async function request(path, options = {}, read = (response) => response.json()) {
  for (;;) {
    const sent = key;
    const headers = { ...options.headers, ...(sent && { 'X-API-Key': sent }) };
    let response;
    try {
      response = await fetch(path, { cache: 'no-store', ...options, headers });
      if (response.ok) return await read(response);
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Away('The service does not answer.');
    }
    const problem = new Problem(response.status, await response.json().catch(() => ({})));
    if (![401, 403].includes(problem.status)) throw problem;
    if (sent === key) await (asking ??= asked(sent && problem.message));
  }
}

/** The same with a JSON body. */
export const post = (path, body, signal) =>
  request(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body), signal });

/** Do `work` until the service is there; `away` hears why it waits, and null once that is over. */
export async function patiently(work, away, signal) {
  for (let seconds = 1; ; seconds = Math.min(2 * seconds, 15)) {
    try {
      const done = await work();
      away(null);
      return done;
    } catch (error) {
      const waits = error instanceof Away || error.status === 503;
      if (signal?.aborted || !waits) throw error;
      away(`${error.message} Trying again …`);
      await new Promise((resolve) => {
        setTimeout(resolve, 1000 * seconds);
        signal?.addEventListener('abort', resolve, { once: true });
      });
      signal?.throwIfAborted();
    }
  }
}

/** Until the user has given a key; `wrong` says why the last one would not do. */
function asked(wrong) {
  const [form, input] = [by('key'), by('key-input')];
  by('key-error').textContent = wrong;
  form.hidden = false;
  return new Promise((resolve) => {
    const given = (event) => {
      event.preventDefault();
      key = input.value.replace(/[^!-~]/g, '');
      input.value = '';
      form.hidden = true;
      asking = null;
      resolve();
    };
    form.addEventListener('submit', given, { once: true });
  });
}
