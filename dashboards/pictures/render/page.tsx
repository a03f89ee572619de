import { createRoot } from 'react-dom/client';
import { dateTimeFormat, EventBusSrv, ThemeContext } from '@grafana/data';
import { GlobalStyles, PanelContextProvider } from '@grafana/ui';
import { theme, TIME_ZONE, timeRange } from './fields';
import type { Dashboard, Panel } from './model';
import { PanelView } from './panel';

// Grafana's grid: 24 columns, rows of 30 pixels, 8 between them.
const ROW = 30;
const GAP = 8;
const EDGE = 16;
const TOP = 96;

function place(panel: Panel, pageWidth: number) {
  const column = (pageWidth - 2 * EDGE + GAP) / 24;
  const { x, y, w, h } = panel.gridPos;
  return {
    left: EDGE + x * column,
    top: TOP + y * (ROW + GAP),
    width: w * column - GAP,
    height: h * (ROW + GAP) - GAP,
  };
}

function Page({ dashboard, width }: { dashboard: Dashboard; width: number }) {
  const range = timeRange(dashboard.from, dashboard.to);
  const context = { eventBus: new EventBusSrv(), eventsScope: 'page' };
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PanelContextProvider value={context}>
        <Controls dashboard={dashboard} />
        {dashboard.panels.map((panel) => {
          const box = place(panel, width);
          return (
            <div key={panel.id} style={{ position: 'absolute', ...box }}>
              {panel.type === 'row' ? (
                <div className="row">{panel.title}</div>
              ) : (
                <PanelView panel={panel} range={range} annotations={dashboard.annotations} width={box.width} height={box.height} />
              )}
            </div>
          );
        })}
      </PanelContextProvider>
    </ThemeContext.Provider>
  );
}

/** What stands above the panels: the title, the range, and what is chosen. */
function Controls({ dashboard }: { dashboard: Dashboard }) {
  const time = (moment: number) => dateTimeFormat(moment, { timeZone: TIME_ZONE });
  return (
    <header style={{ left: EDGE, right: EDGE, height: TOP }}>
      <div>
        <strong>{dashboard.title}</strong>
        <span>{time(dashboard.from)} to {time(dashboard.to)} UTC</span>
      </div>
      <div className="variables">
        {dashboard.variables.map(({ label, text }) => (
          <span key={label} className="variable">
            <label>{label}</label>
            <output>{text}</output>
          </span>
        ))}
      </div>
    </header>
  );
}

const dashboard: Dashboard = JSON.parse(document.getElementById('dashboard')!.textContent!);
// "3 seconds ago" is meant from the range's end.
Date.now = () => dashboard.to;
createRoot(document.getElementById('page')!).render(<Page dashboard={dashboard} width={window.innerWidth} />);
