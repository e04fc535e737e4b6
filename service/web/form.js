/** The form, generated from the schema of PatientRecord: names, ranges, codes and descriptions come from there alone. */

import { byId, el } from './dom.js';

/**
 * One measurement of the schema.
 * @typedef {{ name: string, title: string, description: string, unit?: string, minimum?: number, maximum?: number,
 *   codes: [number, string][], nullable: boolean }} Field
 */

// Point and comma are both decimal marks. No range reaches above 1000, so "1,234" and "1,000" are not thousands.
const NUMBER = /^-?(\d+[.,]?\d*|[.,]\d+)$/;

/** @returns {Field[]} */
export function readFields(schema) {
  return Object.entries(schema.properties).map(([name, property]) => {
    const type = (property.anyOf ?? [property]).find((one) => one.type !== 'null');
    const codes = (type.enum ?? []).map((code, i) => [code, property.labels[i]]);
    // A code that means "unspecified" is not offered: "not known" covers it.
    const offered = Array.isArray(property.plausible) ? codes.filter(([code]) => property.plausible.includes(code)) : codes;
    const { title, description, unit } = property;
    const { minimum, maximum } = type;
    return { name, title, description, unit, minimum, maximum, codes: offered, nullable: Boolean(property.anyOf) };
  });
}

/** The 13 inputs in `form`. `onChange` is called at every change, before the browser shows it. */
export class Form {
  constructor(form, parent, fields, onChange) {
    this.form = form;
    this.fields = fields;
    this.onChange = onChange;
    parent.replaceChildren(...fields.map((field) => (field.codes.length ? createChoices(field) : createNumberInput(field))));
    form.addEventListener('input', onChange);
    form.addEventListener('submit', (event) => event.preventDefault());
  }

  /** The record entered so far, with NaN for what is not a number, and the errors of its numbers. */
  read() {
    const entered = new FormData(this.form);
    const values = this.fields.map(({ name, codes }) => {
      const text = (entered.get(name) ?? '').trim();
      if (text === '') return [name, null];
      return [name, codes.length || NUMBER.test(text) ? Number(text.replace(',', '.')) : NaN];
    });
    const record = Object.fromEntries(values);
    const details = this.fields.map((field) => [field.name, field.codes.length ? '' : findError(field, record[field.name])]);
    return { record, errors: details.filter(([, detail]) => detail).map(([name, detail]) => ({ pointer: `/${name}`, detail })) };
  }

  /** Replace everything by `record`; what it lacks is not known. */
  fill(record) {
    for (const { name, codes } of this.fields) {
      const value = String(record[name] ?? '');
      if (codes.length) for (const radio of this.form.querySelectorAll(`[name=${name}]`)) radio.checked = radio.value === value;
      else this.form.elements[name].value = value;
    }
    this.onChange();
  }

  /** Show each error beside its field, found by JSON pointer; an empty list clears all errors. */
  showErrors(errors) {
    for (const { name, codes } of this.fields) {
      const message = errors.filter((error) => error.pointer === `/${name}`).map((error) => rephrase(error.detail)).join(' ');
      const place = byId(`${name}-error`);
      if (place.textContent !== message) place.textContent = message; // screen readers announce every assignment
      const control = byId(codes.length ? `${name}-choices` : name);
      if (message) control.setAttribute('aria-invalid', 'true');
      else control.removeAttribute('aria-invalid');
    }
  }
}

/** Reword the service's error messages for a form, which has no null. */
export const rephrase = (detail) => detail
  .replace('a JSON number, not a string: ', '')
  .replaceAll('null if it was not taken', 'leave it blank if you do not know it');

/** What is wrong with a number; empty if nothing is. */
function findError({ title, minimum, maximum, unit, nullable }, value) {
  if (value === null || (value >= minimum && value <= maximum)) return '';
  const wanted = Number.isNaN(value) ? 'one number, such as 1.5 or 1,5, without thousands separators' : `from ${minimum} to ${maximum} ${unit}`;
  return `${title} must be ${wanted}${nullable ? '; leave it blank if you do not know it' : ''}`;
}

// Not type="number": it drops a decimal comma, depending on browser and language, so that 0,5 becomes 5.
function createNumberInput({ name, title, description, unit, minimum, maximum, nullable }) {
  const input = el('input', {
    type: 'text', id: name, name, required: !nullable, autocomplete: 'off',
    inputmode: minimum < 0 ? null : 'decimal', // some keyboards for decimals have no minus
    placeholder: nullable ? 'not known' : 'required', 'aria-describedby': `${name}-hint ${name}-error`,
  });
  const hint = el('span.unit', { id: `${name}-hint` }, `${unit} `, el('small', {}, `${minimum} to ${maximum}`));
  return createRow(name, el('label', { for: name, title: description }, title), el('div.control', {}, input, hint));
}

function createChoices({ name, title, description, codes, nullable }) {
  const options = nullable ? [...codes, ['', 'not known']] : codes;
  const pills = options.map(([code, label]) =>
    el('label', {}, el('input', { type: 'radio', name, value: code, checked: code === '', required: !nullable }), el('span', {}, label)),
  );
  const described = { 'aria-labelledby': `${name}-title`, 'aria-describedby': `${name}-error` };
  const group = el('div.choices', { role: 'radiogroup', id: `${name}-choices`, ...described, 'aria-required': !nullable && 'true' }, ...pills);
  return createRow(name, el('span.label', { id: `${name}-title`, title: description }, title), group);
}

const createRow = (name, label, control) => el('div.field', {}, label, control, el('p.error', { id: `${name}-error` }));
