import { type DisplayValueAlignmentFactors, type FieldDisplay, getDisplayValueAlignmentFactors, getFieldDisplayValues } from '@grafana/data';
import { BarGauge, BigValue, VizRepeater } from '@grafana/ui';
import { type Prepared, theme, TIME_ZONE } from './fields';

interface Props {
  data: Prepared;
  options: any;
  width: number;
  height: number;
}

function values({ data, options }: Props): FieldDisplay[] {
  return getFieldDisplayValues({
    fieldConfig: data.fieldConfig,
    reduceOptions: options.reduceOptions,
    replaceVariables: (text) => text,
    theme,
    data: data.frames,
    timeZone: TIME_ZONE,
  });
}

/** Big numbers. */
export function Stat(props: Props) {
  const { options, width, height } = props;
  return (
    <VizRepeater<FieldDisplay, DisplayValueAlignmentFactors>
      getValues={() => values(props)}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, alignmentFactors, width, height, count }) => (
        <BigValue
          theme={theme}
          value={value.display}
          count={count}
          width={width}
          height={height}
          alignmentFactors={alignmentFactors}
          colorMode={options.colorMode}
          graphMode={options.graphMode}
          justifyMode={options.justifyMode}
          textMode={options.textMode}
          text={options.text}
          disableWideLayout={!options.wideLayout}
        />
      )}
      source={props.data}
      renderCounter={0}
      autoGrid
      orientation={options.orientation}
      width={width}
      height={height}
    />
  );
}

/** Bars that lie or stand, one for each value. */
export function Gauges(props: Props) {
  const { options, width, height } = props;
  return (
    <VizRepeater<FieldDisplay, DisplayValueAlignmentFactors>
      getValues={() => values(props)}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, alignmentFactors, width, height, orientation }) => (
        <BarGauge
          theme={theme}
          value={value.display}
          field={value.field}
          display={value.view?.getFieldDisplayProcessor(value.colIndex!)}
          width={width}
          height={height}
          orientation={orientation}
          alignmentFactors={alignmentFactors}
          text={options.text}
          itemSpacing={10}
          lcdCellWidth={12}
          displayMode={options.displayMode}
          valueDisplayMode={options.valueMode}
          namePlacement={options.namePlacement}
          showUnfilled={options.showUnfilled}
        />
      )}
      source={props.data}
      renderCounter={0}
      orientation={options.orientation}
      minVizHeight={options.minVizHeight}
      maxVizHeight={options.maxVizHeight}
      itemSpacing={10}
      width={width}
      height={height}
    />
  );
}
