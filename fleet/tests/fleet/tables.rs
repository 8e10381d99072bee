//! Parquet files as another reader than the opener's own reads them: row by row, by the format's types.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Value, json};

/// The parts of a table, sorted.
pub(crate) fn parts(data: &Path, table: &str) -> Vec<PathBuf> {
    let mut parts = Vec::new();
    for day in std::fs::read_dir(data.join(table)).into_iter().flatten().flatten() {
        for part in std::fs::read_dir(day.path()).unwrap().flatten() {
            let path = part.path();
            assert!(path.extension().is_some_and(|extension| extension == "parquet"), "{}", path.display());
            parts.push(path);
        }
    }
    parts.sort();
    parts
}

/// Every row of a table.
pub(crate) fn rows(data: &Path, table: &str) -> Vec<Map<String, Value>> {
    parts(data, table).iter().flat_map(|path| rows_of(path)).collect()
}

pub(crate) fn rows_of(path: &Path) -> Vec<Map<String, Value>> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(|row| object(&row.unwrap())).collect()
}

fn object(row: &Row) -> Map<String, Value> {
    row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => json!(value),
        Field::ULong(value) => json!(value),
        Field::UShort(value) => json!(value),
        Field::Double(value) => json!(value),
        Field::Str(text) => json!(text),
        Field::Date(day) => json!(day),
        Field::MapInternal(map) => {
            let entries = map.entries().iter().map(|(key, of_key)| match key {
                Field::Str(key) => (key.clone(), value(of_key)),
                other => panic!("{other:?} is no key"),
            });
            Value::Object(entries.collect())
        }
        other => panic!("{other:?} is of no type that a table has"),
    }
}
