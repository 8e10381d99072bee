//! One file of a table: rows in, Parquet out, and back. What is in memory of it does not grow with it, and the same rows
//! in the same order are the same bytes, whether they came from a report or from an older part.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, Date32Builder, Float64Builder, MapBuilder, MapFieldNames, StringBuilder,
    UInt16Builder, UInt64Builder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, UInt16Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, GzipLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::cell::{Cell, ColumnKind};
use crate::table::Table;

/// The most rows that are in memory as Arrow, the same as a row group of a report has.
const BATCH_ROWS: usize = 1024;
/// And the most bytes: rows may be large.
const BATCH_BYTES: usize = 2 << 20;
/// The bytes of rows, before they are packed, after which a row group of the file ends. Its pages are in memory until then.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Rows that are read at once.
const READ_ROWS: usize = 256;
/// gzip's levels from 1 to 9: above this one files get little smaller.
const GZIP_LEVEL: u32 = 3;

/// Writes the rows of one part.
pub(crate) struct PartWriter<W: Write + Send> {
    out: ArrowWriter<W>,
    schema: SchemaRef,
    builders: Vec<Builder>,
    rows: usize,
    batch_bytes: usize,
    group_bytes: usize,
}

enum Builder {
    Bool(BooleanBuilder),
    Count(UInt64Builder),
    Status(UInt16Builder),
    Text(StringBuilder),
    Day(Date32Builder),
    Labels(MapBuilder<StringBuilder, StringBuilder>),
    Metrics(MapBuilder<StringBuilder, Float64Builder>),
}

impl<W: Write + Send> PartWriter<W> {
    pub(crate) fn new(out: W, table: &Table) -> Result<Self> {
        let mut builders: Vec<Builder> = table.columns.iter().map(|column| Builder::new(column.kind)).collect();
        let fields = table.columns.iter().zip(&mut builders);
        let fields: Vec<Field> = fields
            .map(|(column, builder)| Field::new(&column.name, builder.finish().data_type().clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let mut properties = WriterProperties::builder()
            .set_created_by("ondat-telemetry-fleet".to_owned())
            .set_compression(Compression::GZIP(GzipLevel::try_new(GZIP_LEVEL)?))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_max_row_group_row_count(None);
        // What never stands there twice would only be copied into a dictionary first.
        for name in ["node_id", "volume_id", "event_id"] {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
        }
        let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
        let out = ArrowWriter::try_new_with_options(out, Arc::clone(&schema), options)?;
        Ok(Self { out, schema, builders, rows: 0, batch_bytes: 0, group_bytes: 0 })
    }

    /// Adds a row: a cell for each column, in their order.
    pub(crate) fn push(&mut self, row: &[Cell<'_>]) -> Result<()> {
        if row.len() != self.builders.len() {
            return Err(ParquetError::General(format!("{} cells for {} columns", row.len(), self.builders.len())));
        }
        for (builder, cell) in self.builders.iter_mut().zip(row) {
            builder.append(cell)?;
        }
        self.rows += 1;
        // Where batches and row groups end depends on the rows alone, and so do the bytes.
        let bytes: usize = row.iter().map(Cell::bytes).sum();
        self.batch_bytes += bytes;
        self.group_bytes += bytes;
        if self.rows == BATCH_ROWS || self.batch_bytes >= BATCH_BYTES {
            self.write_batch()?;
        }
        if self.group_bytes >= ROW_GROUP_BYTES {
            self.write_batch()?;
            self.out.flush()?;
            self.group_bytes = 0;
        }
        Ok(())
    }

    fn write_batch(&mut self) -> Result<()> {
        if self.rows > 0 {
            let columns = self.builders.iter_mut().map(Builder::finish).collect();
            self.out.write(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?)?;
            self.rows = 0;
            self.batch_bytes = 0;
        }
        Ok(())
    }

    /// Ends the file, with these notes in its footer, and gives the output back.
    pub(crate) fn finish(mut self, notes: &[(&str, String)]) -> Result<W> {
        self.write_batch()?;
        for (key, value) in notes {
            self.out.append_key_value_metadata(KeyValue::new((*key).to_owned(), value.clone()));
        }
        self.out.into_inner()
    }
}

impl Builder {
    fn new(kind: ColumnKind) -> Self {
        // As the Parquet format names the parts of a map.
        let names =
            || MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
        match kind {
            ColumnKind::Bool => Self::Bool(BooleanBuilder::new()),
            ColumnKind::Count => Self::Count(UInt64Builder::new()),
            ColumnKind::Status => Self::Status(UInt16Builder::new()),
            ColumnKind::Text => Self::Text(StringBuilder::new()),
            ColumnKind::Day => Self::Day(Date32Builder::new()),
            ColumnKind::Labels => {
                Self::Labels(MapBuilder::new(Some(names()), StringBuilder::new(), StringBuilder::new()))
            }
            ColumnKind::Metrics => {
                Self::Metrics(MapBuilder::new(Some(names()), StringBuilder::new(), Float64Builder::new()))
            }
        }
    }

    fn append(&mut self, cell: &Cell<'_>) -> Result<()> {
        match (self, cell) {
            (Self::Bool(builder), Cell::Bool(value)) => builder.append_value(*value),
            (Self::Bool(builder), Cell::Null) => builder.append_null(),
            (Self::Count(builder), Cell::Count(value)) => builder.append_value(*value),
            (Self::Count(builder), Cell::Null) => builder.append_null(),
            (Self::Status(builder), Cell::Status(value)) => builder.append_value(*value),
            (Self::Status(builder), Cell::Null) => builder.append_null(),
            (Self::Text(builder), Cell::Text(value)) => builder.append_value(value),
            (Self::Text(builder), Cell::Null) => builder.append_null(),
            (Self::Day(builder), Cell::Day(value)) => builder.append_value(*value),
            (Self::Day(builder), Cell::Null) => builder.append_null(),
            (Self::Labels(builder), Cell::Labels(labels)) => {
                for (key, value) in labels {
                    builder.keys().append_value(key);
                    builder.values().append_value(value);
                }
                builder.append(true)?;
            }
            (Self::Labels(builder), Cell::Null) => builder.append(false)?,
            (Self::Metrics(builder), Cell::Metrics(metrics)) => {
                for (name, value) in metrics {
                    builder.keys().append_value(name);
                    builder.values().append_value(*value);
                }
                builder.append(true)?;
            }
            (Self::Metrics(builder), Cell::Null) => builder.append(false)?,
            (_, cell) => return Err(ParquetError::General(format!("{cell:?} in a column of another kind"))),
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        let builder: &mut dyn ArrayBuilder = match self {
            Self::Bool(builder) => builder,
            Self::Count(builder) => builder,
            Self::Status(builder) => builder,
            Self::Text(builder) => builder,
            Self::Day(builder) => builder,
            Self::Labels(builder) => builder,
            Self::Metrics(builder) => builder,
        };
        builder.finish()
    }
}

/// The note that a part carries under this key; none where it has none.
pub(crate) fn note(file: File, key: &str) -> Result<Option<String>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    Ok(note_of(&builder, key))
}

fn note_of(builder: &ParquetRecordBatchReaderBuilder<File>, key: &str) -> Option<String> {
    let notes = builder.metadata().file_metadata().key_value_metadata()?;
    notes.iter().find(|note| note.key == key)?.value.clone()
}

/// Reads the rows of one part, a few at a time.
pub(crate) struct PartReader {
    batches: ParquetRecordBatchReader,
    kinds: Vec<(String, ColumnKind)>,
    /// A column of the batch for each of the table; none that the file does not have.
    columns: Vec<Option<ArrayRef>>,
    rows: usize,
    at: usize,
}

impl PartReader {
    /// The rows of this file as those of the table: a column that an older opener did not write is null.
    pub(crate) fn new(file: File, table: &Table) -> Result<Self> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(READ_ROWS);
        let is_wanted = |field: &Field| table.columns.iter().any(|column| column.name == *field.name());
        let roots = builder.schema().fields().iter().enumerate().filter(|(_, field)| is_wanted(field));
        let roots: Vec<usize> = roots.map(|(at, _)| at).collect();
        let wanted = ProjectionMask::roots(builder.parquet_schema(), roots);
        let batches = builder.with_projection(wanted).build()?;
        let kinds = table.columns.iter().map(|column| (column.name.clone(), column.kind)).collect();
        let mut reader = Self { batches, kinds, columns: Vec::new(), rows: 0, at: 0 };
        reader.fill()?;
        Ok(reader)
    }

    fn fill(&mut self) -> Result<()> {
        while self.at == self.rows {
            let Some(batch) = self.batches.next() else { return Ok(()) };
            let batch = batch?;
            self.columns = Vec::with_capacity(self.kinds.len());
            for (name, kind) in &self.kinds {
                let column = batch.column_by_name(name).cloned();
                if column.as_ref().is_some_and(|column| !is_of(column.data_type(), *kind)) {
                    return Err(ParquetError::General(format!("the column {name} is of another type")));
                }
                self.columns.push(column);
            }
            self.rows = batch.num_rows();
            self.at = 0;
        }
        Ok(())
    }

    /// Whether there is another row.
    pub(crate) fn has_row(&self) -> bool {
        self.at < self.rows
    }

    /// A cell of the row that is next.
    pub(crate) fn cell(&self, column: usize) -> Cell<'_> {
        let Some(array) = self.columns.get(column).and_then(Option::as_ref).filter(|array| array.is_valid(self.at))
        else {
            return Cell::Null;
        };
        let at = self.at;
        match array.data_type() {
            DataType::Boolean => Cell::Bool(array.as_boolean().value(at)),
            DataType::UInt64 => Cell::Count(array.as_primitive::<UInt64Type>().value(at)),
            DataType::UInt16 => Cell::Status(array.as_primitive::<UInt16Type>().value(at)),
            DataType::Date32 => Cell::Day(array.as_primitive::<Date32Type>().value(at)),
            DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(at)),
            DataType::Map(..) => {
                let map = array.as_map();
                let offsets = map.value_offsets();
                let entries = offset(offsets[at])..offset(offsets[at + 1]);
                let keys = map.keys().as_string::<i32>();
                match map.values().data_type() {
                    DataType::Utf8 => {
                        let values = map.values().as_string::<i32>();
                        Cell::Labels(entries.map(|entry| (keys.value(entry), values.value(entry))).collect())
                    }
                    _ => {
                        let values = map.values().as_primitive::<Float64Type>();
                        Cell::Metrics(entries.map(|entry| (keys.value(entry), values.value(entry))).collect())
                    }
                }
            }
            // `fill` lets no other type in.
            _ => Cell::Null,
        }
    }

    /// The row that is next.
    pub(crate) fn row(&self) -> Vec<Cell<'_>> {
        (0..self.kinds.len()).map(|column| self.cell(column)).collect()
    }

    /// Goes to the row after it.
    pub(crate) fn advance(&mut self) -> Result<()> {
        self.at += 1;
        self.fill()
    }
}

/// Offsets are never negative.
fn offset(offset: i32) -> usize {
    usize::try_from(offset).unwrap_or(0)
}

fn is_of(found: &DataType, kind: ColumnKind) -> bool {
    let is_map_to = |wanted: &DataType| match found {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(members) => {
                members.len() == 2 && *members[0].data_type() == DataType::Utf8 && members[1].data_type() == wanted
            }
            _ => false,
        },
        _ => false,
    };
    match kind {
        ColumnKind::Bool => *found == DataType::Boolean,
        ColumnKind::Count => *found == DataType::UInt64,
        ColumnKind::Status => *found == DataType::UInt16,
        ColumnKind::Text => *found == DataType::Utf8,
        ColumnKind::Day => *found == DataType::Date32,
        ColumnKind::Labels => is_map_to(&DataType::Utf8),
        ColumnKind::Metrics => is_map_to(&DataType::Float64),
    }
}
