import { FieldType, type TimeRange } from '@grafana/data';
import { PanelChrome } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { Bars } from './bars';
import { prepared } from './fields';
import { HeatMap } from './heatmap';
import type { Dashboard, Panel } from './model';
import { Series } from './series';
import { Gauges, Stat } from './stat';
import { Timeline } from './timeline';

interface Props {
  panel: Panel;
  range: TimeRange;
  annotations: Dashboard['annotations'];
  width: number;
  height: number;
}

/** A panel in its frame. One without data says so, as Grafana does: such a picture is not to be shown. */
export function PanelView({ panel, range, annotations, width, height }: Props) {
  return (
    <PanelChrome title={panel.title} description={panel.description} width={width} height={height} padding={panel.type === 'table' ? 'none' : 'md'}>
      {(width, height) => <Drawing {...{ panel, range, annotations, width, height }} />}
    </PanelChrome>
  );
}

function Drawing({ panel, range, annotations, width, height }: Props) {
  const data = prepared(panel);
  const { options } = panel;
  const props = { data, options, range, annotations, width, height };
  if (data.frames.every((frame) => frame.length === 0 || frame.fields.every((field) => field.type === FieldType.time))) {
    console.error(`The panel "${panel.title}" has no data.`);
    return <div className="no-data">No data</div>;
  }
  switch (panel.type) {
    case 'stat':
      return <Stat {...props} />;
    case 'bargauge':
      return <Gauges {...props} />;
    case 'timeseries':
      return <Series {...props} />;
    case 'table':
      return (
        <TableNG
          data={data.frames[0]}
          fieldConfig={data.fieldConfig}
          width={width}
          height={height}
          cellHeight={options.cellHeight}
          noHeader={!options.showHeader}
          sortBy={options.sortBy}
          timeRange={range}
          enableVirtualization={false}
        />
      );
    case 'heatmap':
      return <HeatMap {...props} />;
    case 'state-timeline':
      return <Timeline {...props} />;
    case 'barchart':
      return <Bars {...props} />;
    default:
      throw new Error(`Nobody draws panels of type ${panel.type} yet: give dashboards/pictures/render a module for them.`);
  }
}
