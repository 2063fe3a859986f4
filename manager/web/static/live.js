// Follows a job on its page: the state, the bar and the counts. Without it the page is right when it is loaded.
'use strict';

(() => {
  const root = document.querySelector('[data-stream]');
  if (!root || !window.EventSource) return;

  const show = (name, text) => {
    for (const e of root.querySelectorAll(`[data-live="${name}"]`)) {
      if (e.textContent !== text) e.textContent = text;
    }
  };
  const group = new Intl.NumberFormat('en');
  const state = root.dataset.state;
  const spawns = root.dataset.spawns;
  const source = new EventSource(root.dataset.stream);

  source.addEventListener('progress', (event) => {
    const p = JSON.parse(event.data);
    const c = p.counts;
    for (const name of ['tasks', 'open', 'leased', 'done', 'dead', 'skipped', 'places', 'duplicates', 'spawns']) {
      show(name, group.format(c[name]));
    }
    const share = c.tasks ? Math.floor(100 * (c.done + c.dead + c.skipped) / c.tasks) : 0;
    show('percent', `${share}%`);
    for (const bar of root.querySelectorAll('progress')) bar.value = share;
    for (const chip of root.querySelectorAll('[data-chip]')) {
      chip.textContent = p.state;
      chip.dataset.chip = p.state;
    }
    const waits = root.querySelector('[data-waiting]');
    waits.hidden = !p.waiting;
    show('waiting', p.waiting || '');
    show('live', 'live');
    // What the stream does not carry, buttons, workers and timeline, is the server's to draw. A log that is being read is not taken away.
    if (p.state !== state || String(c.spawns) !== spawns) {
      if (document.querySelector('details[open]')) {
        show('live', 'there is more: load the page again');
      } else {
        source.close();
        location.reload();
      }
    }
  });
  source.addEventListener('end', () => source.close());
  source.addEventListener('error', () => show('live', 'connection lost, trying again'));
})();
