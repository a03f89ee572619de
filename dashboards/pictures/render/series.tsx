import { useLayoutEffect } from 'react';
import { FieldType, type TimeRange } from '@grafana/data';
import { TimeSeries, type UPlotConfigBuilder } from '@grafana/ui';
import { type Prepared, theme, TIME_ZONE } from './fields';
import type { Dashboard } from './model';

interface Props {
  data: Prepared;
  options: any;
  range: TimeRange;
  annotations: Dashboard['annotations'];
  width: number;
  height: number;
}

/** Values over time. */
export function Series({ data, options, range, annotations, width, height }: Props) {
  return (
    <TimeSeries
      frames={data.frames}
      timeRange={range}
      timeZone={TIME_ZONE}
      legend={options.legend}
      options={options}
      width={width}
      height={height}
    >
      {(config) => <Annotations config={config} annotations={annotations} />}
    </TimeSeries>
  );
}

/** Dashed lines with a mark below the axis, as Grafana draws them. */
function Annotations({ config, annotations }: { config: UPlotConfigBuilder; annotations: Dashboard['annotations'] }) {
  useLayoutEffect(() => {
    config.addHook('draw', (plot) => {
      const { ctx, bbox } = plot;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height + 8);
      ctx.clip();
      for (const { color, frame } of annotations) {
        ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName(color);
        for (const time of frame.fields.find((field) => field.type === FieldType.time)?.values ?? []) {
          const x = Math.round(plot.valToPos(time as number, 'x', true));
          ctx.globalAlpha = 0.6;
          ctx.setLineDash([4, 4]);
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
          ctx.globalAlpha = 1;
          ctx.beginPath();
          ctx.moveTo(x, bbox.top + bbox.height);
          ctx.lineTo(x - 4, bbox.top + bbox.height + 6);
          ctx.lineTo(x + 4, bbox.top + bbox.height + 6);
          ctx.fill();
        }
      }
      ctx.restore();
    });
  }, [config, annotations]);
  return null;
}
