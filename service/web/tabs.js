/** Tabs, as WAI-ARIA's authoring practices describe them: arrows move between them, Tab goes on into the panel. */

/** @param {(panel: HTMLElement) => void} shown hears of each panel that is opened */
export function tabs(shown) {
  const all = [...document.querySelectorAll('[role=tab]')];
  const open = (tab) => {
    for (const one of all) {
      const chosen = one === tab;
      one.setAttribute('aria-selected', String(chosen));
      one.tabIndex = chosen ? 0 : -1;
      document.getElementById(one.getAttribute('aria-controls')).hidden = !chosen;
    }
    shown(document.getElementById(tab.getAttribute('aria-controls')));
  };
  all.forEach((tab, i) => {
    tab.addEventListener('click', () => open(tab));
    tab.addEventListener('keydown', (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1 + all.length, Home: 0, End: all.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = all[to % all.length];
      next.focus();
      open(next);
    });
  });
  return (id) => open(all.find((tab) => tab.getAttribute('aria-controls') === id));
}
