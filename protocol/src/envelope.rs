//! Sentry's envelope: a header line, then items, each a header line and a payload.

use serde_json::{Map, Value, json};

use crate::limits::ENVELOPE_ITEMS;

/// An envelope with one event; none where the bytes are no event. `sent_at` is the moment of sending in RFC 3339, by which
/// servers correct a wrong clock.
pub fn write(event: &[u8], sent_at: &str) -> Option<Vec<u8>> {
    let parsed: Value = serde_json::from_slice(event).ok()?;
    let event_id = parsed.get("event_id").and_then(Value::as_str)?;
    let header = json!({ "event_id": event_id, "sent_at": sent_at });
    let item = json!({ "type": "event", "length": event.len() });
    let mut envelope = format!("{header}\n{item}\n").into_bytes();
    envelope.extend_from_slice(event);
    envelope.push(b'\n');
    Some(envelope)
}

/// An envelope taken apart.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// Its header's members.
    pub header: Map<String, Value>,
    /// Its items.
    pub items: Vec<Item<'a>>,
}

/// One item.
#[derive(Debug)]
pub struct Item<'a> {
    /// Its header's members.
    pub header: Map<String, Value>,
    /// Its payload.
    pub payload: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Takes an envelope apart. The error says what is wrong with it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let (line, mut rest) = split_line(bytes);
        let header = json_line(line).map_err(|why| format!("the envelope's header {why}"))?;
        let mut items = Vec::new();
        loop {
            // Empty lines may follow an item and the last one.
            while let Some(after) = rest.strip_prefix(b"\n") {
                rest = after;
            }
            if rest.is_empty() {
                return Ok(Self { header, items });
            }
            if items.len() == ENVELOPE_ITEMS {
                return Err(format!("it has more than {ENVELOPE_ITEMS} items"));
            }
            let (item, after) = Item::parse(rest).map_err(|why| format!("item {}: {why}", items.len() + 1))?;
            items.push(item);
            rest = after;
        }
    }
}

impl<'a> Item<'a> {
    fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), String> {
        let (line, rest) = split_line(bytes);
        let header = json_line(line).map_err(|why| format!("its header {why}"))?;
        let (payload, rest) = match header.get("length") {
            None => split_line(rest),
            Some(length) => split_length(rest, length)?,
        };
        Ok((Self { header, payload }, rest))
    }

    /// The item's type.
    pub fn kind(&self) -> &str {
        self.header.get("type").and_then(Value::as_str).unwrap_or_default()
    }
}

fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

fn split_length<'a>(bytes: &'a [u8], length: &Value) -> Result<(&'a [u8], &'a [u8]), String> {
    let length = length.as_u64().and_then(|length| usize::try_from(length).ok()).ok_or("its length is no number")?;
    let (payload, rest) = bytes.split_at_checked(length).ok_or("its length is more than there is")?;
    match rest {
        [] => Ok((payload, rest)),
        [b'\n', rest @ ..] => Ok((payload, rest)),
        _ => Err("its payload does not end where its length says".to_owned()),
    }
}

fn json_line(line: &[u8]) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(line).map_err(|why| format!("is no JSON object ({why})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Result<Vec<(String, String)>, String> {
        let envelope = Envelope::parse(text.as_bytes())?;
        let both = |item: &Item<'_>| (item.kind().to_owned(), String::from_utf8(item.payload.to_vec()).unwrap());
        Ok(envelope.items.iter().map(both).collect())
    }

    #[test]
    fn items_with_and_without_length() {
        let text = "{}\n{\"type\":\"a\",\"length\":3}\nx\ny\n{\"type\":\"b\"}\n{}\n\n";
        assert_eq!(kinds(text).unwrap(), [("a".into(), "x\ny".into()), ("b".into(), "{}".into())]);
        assert_eq!(kinds("{}\n{\"type\":\"b\"}\nlast").unwrap(), [("b".into(), "last".into())]);
        assert_eq!(kinds("{}\n{\"type\":\"b\",\"length\":0}\n\n").unwrap(), [("b".into(), String::new())]);
        assert_eq!(kinds("{}").unwrap(), []);
    }

    #[test]
    fn damage_is_named() {
        assert!(kinds("").unwrap_err().contains("the envelope's header"));
        assert!(kinds("[]\n").unwrap_err().contains("no JSON object"));
        assert!(kinds("{}\nx\n").unwrap_err().contains("item 1: its header"));
        assert!(kinds("{}\n{\"length\":9}\nshort").unwrap_err().contains("more than there is"));
        assert!(kinds("{}\n{\"length\":2}\nlong\n").unwrap_err().contains("does not end"));
        assert!(kinds("{}\n{\"length\":-1}\n\n").unwrap_err().contains("no number"));
    }

    #[test]
    fn an_envelope_is_three_lines() {
        let bytes = write(br#"{"event_id":"aa"}"#, "2026-01-01T00:00:00Z").unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text,
            "{\"event_id\":\"aa\",\"sent_at\":\"2026-01-01T00:00:00Z\"}\n{\"length\":17,\"type\":\"event\"}\n{\"event_id\":\"aa\"}\n"
        );
        assert!(write(b"not json", "").is_none());
    }
}
