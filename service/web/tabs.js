/** Tabs by the WAI-ARIA authoring practices: arrow keys move between tabs, Tab moves into the panel. */

/**
 * @param {(panel: HTMLElement) => void} onOpen called with each panel that is opened
 * @returns {(id: string) => void} opens a panel by its id
 */
export function initTabs(onOpen) {
  const tabs = [...document.querySelectorAll('[role=tab]')];
  const open = (tab) => {
    for (const other of tabs) {
      const isSelected = other === tab;
      other.setAttribute('aria-selected', String(isSelected));
      other.tabIndex = isSelected ? 0 : -1;
      document.getElementById(other.getAttribute('aria-controls')).hidden = !isSelected;
    }
    onOpen(document.getElementById(tab.getAttribute('aria-controls')));
  };
  tabs.forEach((tab, i) => {
    tab.addEventListener('click', () => open(tab));
    tab.addEventListener('keydown', (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = tabs[to % tabs.length];
      next.focus();
      open(next);
    });
  });
  return (id) => open(tabs.find((tab) => tab.getAttribute('aria-controls') === id));
}
