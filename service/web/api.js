/** Requests to the service. The API key and patient data are kept in memory only. */

import { byId } from './dom.js';

let key = '';
let keyPrompt = null; // resolves when the user has entered a key

/** An error response, from its problem+json. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `The service answered ${status}.`);
    this.status = status;
    this.errors = body.errors ?? [];
  }
}

/** No response, or only part of one. */
export class Unreachable extends Error {}

/**
 * Send one request; if the service requires a key, ask the user for it. Throws Problem, Unreachable and AbortError.
 * @param {(response: Response) => unknown} read converts a successful response
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
      throw new Unreachable('The service does not answer.');
    }
    const problem = new Problem(response.status, await response.json().catch(() => ({})));
    if (![401, 403].includes(problem.status)) throw problem;
    if (sent === key) await (keyPrompt ??= askForKey(sent && problem.message));
  }
}

/** Send a POST request with a JSON body. */
export const post = (path, body, signal) =>
  request(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body), signal });

/** Retry `work` while the service is unavailable. `onWait` gets the reason, and null when `work` has succeeded. */
export async function retryWhileUnavailable(work, onWait, signal) {
  for (let seconds = 1; ; seconds = Math.min(2 * seconds, 15)) {
    try {
      const result = await work();
      onWait(null);
      return result;
    } catch (error) {
      const isTemporary = error instanceof Unreachable || error.status === 503;
      if (signal?.aborted || !isTemporary) throw error;
      onWait(`${error.message} Trying again …`);
      await new Promise((resolve) => {
        setTimeout(resolve, 1000 * seconds);
        signal?.addEventListener('abort', resolve, { once: true });
      });
      signal?.throwIfAborted();
    }
  }
}

/** Wait until the user has entered a key; `rejection` says why the last one was not accepted. */
function askForKey(rejection) {
  const [form, input] = [byId('key'), byId('key-input')];
  byId('key-error').textContent = rejection;
  form.hidden = false;
  return new Promise((resolve) => {
    const onSubmit = (event) => {
      event.preventDefault();
      key = input.value.replace(/[^!-~]/g, '');
      input.value = '';
      form.hidden = true;
      keyPrompt = null;
      resolve();
    };
    form.addEventListener('submit', onSubmit, { once: true });
  });
}
