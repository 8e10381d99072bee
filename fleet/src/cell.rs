//! Values of a table's rows: what a column may hold, and one value of it.

/// What a column holds. Null is always allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    Bool,
    /// An unsigned 64-bit integer.
    Count,
    /// An HTTP status: an unsigned 16-bit integer.
    Status,
    Text,
    /// A UTC day.
    Day,
    /// A map from text to text.
    Labels,
    /// A map from text to number.
    Metrics,
}

/// One value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Cell<'a> {
    #[default]
    Null,
    Bool(bool),
    Count(u64),
    Status(u16),
    Text(&'a str),
    /// Days since 1970-01-01.
    Day(i32),
    Labels(Vec<(&'a str, &'a str)>),
    Metrics(Vec<(&'a str, f64)>),
}

impl Cell<'_> {
    /// About how many bytes it takes before it is packed: a function of the value alone, by which parts are cut.
    pub(crate) fn bytes(&self) -> usize {
        const SCALAR: usize = 8;
        SCALAR
            + match self {
                Self::Text(text) => text.len(),
                Self::Labels(labels) => labels.iter().map(|(key, value)| 2 * SCALAR + key.len() + value.len()).sum(),
                Self::Metrics(metrics) => metrics.iter().map(|(name, _)| 2 * SCALAR + name.len()).sum(),
                _ => 0,
            }
    }
}
