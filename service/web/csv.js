/** CSV by whole records, read as the service reads and writes it (RFC 4180). */

const QUOTED = /(?<![^,\r\n])"[^"]*(?:""[^"]*)*("|$)/g; // elsewhere in a cell a quote is but a character
const NOTES = /^(?:(?:# [^\r\n]*)?[\r\n])*/;
const LINE = /^(?:[^"\r\n]|"[^"]*")*(?:\r\n|\r|\n)/;
const CELL = /(?:"([^"]*(?:""[^"]*)*)"|([^,\n]*))(,|\n|$)/g;

/** Where the last whole record of a text ends that begins with one; 0 if none does. */
export function end(text) {
  const quoted = text.includes('"') ? [...text.matchAll(QUOTED)].map((cell) => [cell.index, cell.index + cell[0].length]) : [];
  let at = text.length;
  while (at > 0) {
    at = Math.max(text.lastIndexOf('\n', at - 1), text.lastIndexOf('\r', at - 1)) + 1;
    while (quoted.length && quoted.at(-1)[0] >= at) quoted.pop();
    if (!quoted.length || quoted.at(-1)[1] < at) return at;
    at = quoted.at(-1)[0];
  }
  return 0;
}

/** The header line of a table and what follows it; notes before it are dropped. No header: it is empty. */
export function headed(text) {
  const from = text.replace(NOTES, '');
  const header = LINE.exec(from)?.[0] ?? '';
  return [header, from.slice(header.length)];
}

/** The records of an answer, as arrays of cells. */
export function* records(text) {
  if (!text.includes('"')) {
    for (const line of text.split('\n')) if (line) yield line.split(',');
    return;
  }
  let row = [];
  for (const [, quoted, plain, after] of text.matchAll(CELL)) {
    if (!after && !row.length && !plain && quoted === undefined) return;
    row.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (after === ',') continue;
    yield row;
    row = [];
  }
}

/** Text in parts of at least `size` characters that end where records do; the last is what is left. */
export async function* parts(chunks, size) {
  let text = '';
  for await (const chunk of chunks) {
    text += chunk;
    if (text.length < size) continue;
    const cut = end(text);
    if (!cut && text.length < 8 * size) continue; // a long record; one without end is the service's to refuse
    yield text.slice(0, cut || text.length);
    text = text.slice(cut || text.length);
  }
  if (text) yield text;
}
