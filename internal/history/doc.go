// Package history turns recorded telemetry from elsewhere into base steps, and base steps
// into files.
//
// What comes in: CSV files (plain or gzipped), Parquet files, and range queries of a
// Prometheus, as rows of a VM at a time; or the messages of STEPS. What goes out: the
// messages of STEPS that those rows make, in the order of steps and partitions; or a
// Parquet file.
//
// What is promised:
//
//   - Everything is read and checked before anything is given out: a file that ends too
//     soon, is of another version, lacks a column or holds what is no number is an error
//     that names file, row and column, and nothing has been written.
//   - What can be repaired is, and is counted: rows out of order, the same moment twice
//     (the last one stands), cells that are empty, steps without a row. Gaps stay gaps.
//   - Rows finer than a base step are averaged, of *_max columns the highest is kept.
//   - The same rows give the same messages, however they were spread over files.
//   - Memory is bounded by the number of values.
//
// Why all at once: history that is half there looks like a fleet that was half idle.
package history
