//! Text from elsewhere, shown without effect on the terminal: the sender chooses a product's version, a crash's
//! description and a name in a DNS question.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Whether a character is only shown. Others steer terminals, turn the direction of writing, break lines or cannot be seen;
/// one that Unicode does not know yet may do any of that one day.
pub fn is_plain(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator, Surrogate, Unassigned};
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    !matches!(c.general_category(), Control | Format | LineSeparator | ParagraphSeparator | Surrogate | Unassigned)
}

/// The text on one line, each character that is not plain replaced.
pub fn text(text: &str) -> String {
    text.chars().map(|c| if is_plain(c) { c } else { '\u{fffd}' }).collect()
}

/// One line of JSON without its end, each character that is not plain escaped.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    write_json(&mut bytes, value)?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

/// The same, written.
pub fn write_json(out: &mut impl Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Escaping))
}

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut written = 0;
        for (at, c) in fragment.char_indices().filter(|(_, c)| !is_plain(*c)) {
            out.write_all(&fragment.as_bytes()[written..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            written = at + c.len_utf8();
        }
        out.write_all(&fragment.as_bytes()[written..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Cc and Cf of Unicode 15, the two separators of lines, by Python's `unicodedata`.
    const OBEYED: [(u32, u32); 22] = [
        (0x0000, 0x001f),
        (0x007f, 0x009f),
        (0x00ad, 0x00ad),
        (0x0600, 0x0605),
        (0x061c, 0x061c),
        (0x06dd, 0x06dd),
        (0x070f, 0x070f),
        (0x0890, 0x0891),
        (0x08e2, 0x08e2),
        (0x180e, 0x180e),
        (0x200b, 0x200f),
        (0x2028, 0x202e),
        (0x2060, 0x2064),
        (0x2066, 0x206f),
        (0xfeff, 0xfeff),
        (0xfff9, 0xfffb),
        (0x110bd, 0x110bd),
        (0x110cd, 0x110cd),
        (0x13430, 0x1343f),
        (0x1bca0, 0x1bca3),
        (0x1d173, 0x1d17a),
        (0xe0001, 0xe007f),
    ];

    #[test]
    fn every_control_format_and_direction_character_is_replaced_or_escaped() {
        for c in OBEYED.into_iter().flat_map(|(first, last)| first..=last).filter_map(char::from_u32) {
            let sent = format!("a{c}b");
            assert_eq!(text(&sent), "a\u{fffd}b", "{:x}", u32::from(c));
            let written = json(&json!({ &sent: &sent })).unwrap();
            assert!(written.is_ascii() && !written.contains(char::is_control), "{written:?}");
            let read: Value = serde_json::from_str(&written).unwrap();
            assert_eq!(read, json!({ &sent: &sent }), "nothing is lost");
        }
    }

    #[test]
    fn what_people_write_stays() {
        for written in ["2.8.2-rc.1+x", "größer, 日本語, עברית, العربية", "e\u{301} 👍 – ‘’ \u{a0}", "\\ \" /"]
        {
            assert_eq!(text(written), written);
            assert_eq!(json(&written).unwrap(), serde_json::to_string(written).unwrap());
        }
    }
}
