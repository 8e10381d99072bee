//! The head of an HTTP answer, as other software writes it: what RFC 9112 allows and Go's client accepts. Interim
//! answers are skipped with all their fields, folded lines are joined, and any number of fields is accepted. Only the
//! wanted fields are kept, so memory does not grow with what a server sends.

/// What is kept of one line. What is longer is cut: no field that is wanted is.
const LINE_BYTES: usize = 8 * 1024;
/// How many lines of fields that are wanted are kept.
const MOST_FIELDS: usize = 32;
/// Where a head is no head any more, all interim answers before it included. Go's client stops at 10 MiB.
const MOST_BYTES: u64 = 16 << 20;

/// The head of a final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status, 101 or 200 to 999.
    pub status: u16,
    /// Where the body ends.
    pub body: Body,
    /// The fields that were wanted, in the order in which they came; names in lower case.
    pub fields: Vec<(String, Vec<u8>)>,
}

/// Where a body ends (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// After so many bytes.
    Length(u64),
    /// After its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// Reads a head as it comes.
#[derive(Debug)]
pub struct HeadReader {
    wanted: Vec<String>,
    read: u64,
    line: Vec<u8>,
    /// The status and whether it is HTTP/1.0, once its line has come.
    status: Option<(u16, bool)>,
    /// A field line has come, which the next line may continue.
    last: Last,
    fields: Vec<(String, Vec<u8>)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Last {
    Kept,
    PassedOver,
}

/// Fields by which the end of the body is known.
const CONTENT_LENGTH: &str = "content-length";
const TRANSFER_ENCODING: &str = "transfer-encoding";

impl HeadReader {
    /// Of which these fields are wanted.
    pub fn new(wanted: &[&str]) -> Self {
        let framing = [CONTENT_LENGTH, TRANSFER_ENCODING];
        Self {
            wanted: wanted.iter().chain(&framing).map(|name| name.to_ascii_lowercase()).collect(),
            read: 0,
            line: Vec::new(),
            status: None,
            last: Last::PassedOver,
            fields: Vec::new(),
        }
    }

    /// Takes what has come. Returns how much of it belongs to the head, and the head of the final answer once it is whole.
    /// The error says what is wrong with it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(usize, Option<Head>), &'static str> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            let end = rest.iter().position(|byte| *byte == b'\n');
            let piece = &rest[..end.unwrap_or(rest.len())];
            let room = LINE_BYTES - self.line.len();
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            used += piece.len() + usize::from(end.is_some());
            self.read += piece.len() as u64 + 1;
            if self.read > MOST_BYTES {
                return Err("the head of the answer does not end");
            }
            if self.status.is_none() && self.line.len() == LINE_BYTES {
                return Err(NOT_HTTP);
            }
            if end.is_some()
                && let Some(head) = self.take_line()?
            {
                return Ok((used, Some(head)));
            }
        }
        Ok((used, None))
    }

    fn take_line(&mut self) -> Result<Option<Head>, &'static str> {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let Some((status, is_http_1_0)) = self.status else {
            // RFC 9112, 2.2, says it of requests; some servers end an interim answer with a line too many.
            if !line.is_empty() {
                self.status = Some(status_of(line).ok_or(NOT_HTTP)?);
            }
            return Ok(None);
        };
        if line.is_empty() {
            let fields = std::mem::take(&mut self.fields);
            self.status = None;
            self.last = Last::PassedOver;
            let is_interim = (100..200).contains(&status) && status != 101;
            return Ok((!is_interim).then(|| Head::new(status, is_http_1_0, fields)));
        }
        if line[0] == b' ' || line[0] == b'\t' {
            // A folded line (RFC 9112, 5.2).
            if let (Last::Kept, Some((_, value))) = (&self.last, self.fields.last_mut())
                && value.len() + line.len() < LINE_BYTES
            {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            return Ok(None);
        }
        self.last = Last::PassedOver;
        // A line without a colon is no field. It changes nothing in those that are.
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Ok(None) };
        let (name, value) = (line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii());
        let name = self.wanted.iter().find(|wanted| wanted.as_bytes().eq_ignore_ascii_case(name));
        if let Some(name) = name.filter(|_| self.fields.len() < MOST_FIELDS) {
            self.fields.push((name.clone(), value.to_vec()));
            self.last = Last::Kept;
        }
        Ok(None)
    }
}

const NOT_HTTP: &str = "the answer is not HTTP";

/// `HTTP/1.1 200 OK`, with or without the words at its end.
fn status_of(line: &[u8]) -> Option<(u16, bool)> {
    let rest = line.strip_prefix(b"HTTP/")?;
    let [major, b'.', minor, b' ', rest @ ..] = rest else { return None };
    if !major.is_ascii_digit() || !minor.is_ascii_digit() {
        return None;
    }
    let rest = rest.trim_ascii_start();
    let (digits, words) = rest.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) || words.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
        return None;
    }
    let status = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    (status >= 100).then_some((status, (*major, *minor) == (b'1', b'0')))
}

impl Head {
    fn new(status: u16, is_http_1_0: bool, mut fields: Vec<(String, Vec<u8>)>) -> Self {
        let body = Body::of(&fields, is_http_1_0);
        fields.retain(|(name, _)| name != CONTENT_LENGTH && name != TRANSFER_ENCODING);
        Self { status, body, fields }
    }
}

impl Body {
    fn of(fields: &[(String, Vec<u8>)], is_http_1_0: bool) -> Self {
        let values =
            |wanted: &'static str| fields.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value);
        let items = |value: &Vec<u8>| -> Vec<Vec<u8>> {
            value.split(|byte| *byte == b',').map(|item| item.trim_ascii().to_ascii_lowercase()).collect()
        };
        // RFC 9112, 6.1: one to a client of 1.0 is an error of the server's, and the length counts.
        let is_chunked = values(TRANSFER_ENCODING).flat_map(items).next_back().is_some_and(|last| last == b"chunked");
        if is_chunked && !is_http_1_0 {
            return Self::Chunked;
        }
        // The same length more than once is one length (RFC 9112, 6.3).
        let mut lengths = values(CONTENT_LENGTH).flat_map(items).map(|item| {
            let is_number = !item.is_empty() && item.iter().all(u8::is_ascii_digit);
            is_number.then(|| String::from_utf8(item).ok()?.parse().ok()).flatten()
        });
        match lengths.next() {
            Some(Some(length)) if lengths.all(|other| other == Some(length)) => Self::Length(length),
            _ => Self::UntilClose,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_in_pieces(text: &[u8], piece: usize) -> Result<(usize, Option<Head>), &'static str> {
        let mut reader = HeadReader::new(&["Retry-After", "Ondat-Telemetry"]);
        let mut used = 0;
        for bytes in text.chunks(piece) {
            let (more, head) = reader.push(bytes)?;
            used += more;
            if head.is_some() {
                return Ok((used, head));
            }
        }
        Ok((used, None))
    }

    /// However it is cut into pieces.
    fn read(text: &[u8]) -> Result<(usize, Option<Head>), &'static str> {
        let whole = read_in_pieces(text, text.len().max(1));
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(read_in_pieces(text, piece), whole, "{piece}");
        }
        whole
    }

    fn head(text: &str) -> Head {
        read(text.as_bytes()).unwrap().1.unwrap()
    }

    fn field(text: &str) -> String {
        let head = head(&format!("HTTP/1.1 503 x\r\n{text}\r\n\r\n"));
        let fields = head.fields.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)));
        fields.collect::<Vec<_>>().join("|")
    }

    #[test]
    fn status_lines_as_they_are_written() {
        for (line, status) in [
            ("HTTP/1.1 200 OK", Some(200)),
            ("HTTP/1.1 200", Some(200)),
            ("HTTP/1.1 200 ", Some(200)),
            ("HTTP/1.0  404  Not  Found", Some(404)),
            ("HTTP/1.1 200 \u{fc}ber", Some(200)),
            ("HTTP/2.0 201 x", Some(201)),
            ("HTTP/1.1 999 x", Some(999)),
            ("HTTP/1.1 101 x", Some(101)),
            ("HTTP/1.1 2000 x", None),
            ("HTTP/1.1 20 x", None),
            ("HTTP/1.1 099 x", None),
            ("HTTP/11 200 x", None),
            ("HTTP/1.1\t200 x", None),
            ("http/1.1 200 x", None),
            ("ICY 200 OK", None),
            ("<html>", None),
        ] {
            let got = read(format!("{line}\r\n\r\n").as_bytes());
            assert_eq!(got.ok().and_then(|(_, head)| head).map(|head| head.status), status, "{line:?}");
        }
    }

    #[test]
    fn fields_as_they_are_written() {
        assert_eq!(field("Retry-After: 5"), "retry-after=5");
        assert_eq!(field("RETRY-AFTER:5   "), "retry-after=5");
        assert_eq!(field("Retry-After : 5"), "retry-after=5");
        assert_eq!(field("Retry-After:\t5"), "retry-after=5");
        assert_eq!(field("X: y\r\n no colon\r\nRetry-After: 5"), "retry-after=5");
        assert_eq!(field("no colon\r\nRetry-After: 5"), "retry-after=5");
        assert_eq!(field(": nameless\r\nX-\u{fc}: \u{1}\r\nRetry-After: 5"), "retry-after=5");
        assert_eq!(field("Retry-After:\r\n Fri, 01\r\n\tJan 2027"), "retry-after= Fri, 01 Jan 2027");
        assert_eq!(field("X: a\r\n Retry-After: 5"), "", "a folded line is part of the field before it");
        assert_eq!(
            field("Retry-After: 5\r\nOndat-Telemetry: 1\r\nRetry-After: 6"),
            "retry-after=5|ondat-telemetry=1|retry-after=6"
        );
        assert_eq!(
            head("HTTP/1.1 200 OK\nOndat-Telemetry: 1\n\n").fields,
            [("ondat-telemetry".to_owned(), b"1".to_vec())]
        );
    }

    #[test]
    fn interim_answers_are_passed_over_with_their_fields() {
        let text = b"HTTP/1.1 100 Continue\r\nServer: x\r\nRetry-After: 9\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n b\r\n\r\n\r\n\
            HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok";
        let (used, head) = read(text).unwrap();
        assert_eq!(&text[used..], b"ok");
        assert_eq!(head, Some(Head { status: 201, body: Body::Length(2), fields: Vec::new() }));
    }

    #[test]
    fn any_number_of_fields_of_any_length_takes_no_more_memory() {
        let many = "X-Some-Header: some value\r\n".repeat(40_000) + &format!("X-Long: {}\r\n", "y".repeat(1_000_000));
        let mut reader = HeadReader::new(&["Retry-After"]);
        reader.push(b"HTTP/1.1 503 x\r\n").unwrap();
        assert_eq!(reader.push(many.as_bytes()), Ok((many.len(), None)));
        assert!(reader.fields.is_empty() && reader.line.capacity() <= 2 * LINE_BYTES);
        let last = reader.push(b"Retry-After: 7\r\n\r\n").unwrap().1.unwrap();
        assert_eq!(last.fields, [("retry-after".to_owned(), b"7".to_vec())]);
    }

    #[test]
    fn a_head_that_does_not_end_is_an_error() {
        let mut reader = HeadReader::new(&[]);
        let piece = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
        let error = (0..10_000).find_map(|_| reader.push(&piece).err());
        assert!(error.is_some_and(|why| why.contains("does not end")));
        assert_eq!(HeadReader::new(&[]).push(&b"x".repeat(20_000)), Err(NOT_HTTP));
    }

    #[test]
    fn the_end_of_a_body() {
        for (fields, body) in [
            ("", Body::UntilClose),
            ("Content-Length: 5", Body::Length(5)),
            ("Content-Length: 5\r\nContent-Length: 5", Body::Length(5)),
            ("Content-Length: 5, 5", Body::Length(5)),
            ("Content-Length: 5\r\nContent-Length: 6", Body::UntilClose),
            ("Content-Length: +5", Body::UntilClose),
            ("Content-Length: 99999999999999999999", Body::UntilClose),
            ("Transfer-Encoding: Chunked\r\nContent-Length: 5", Body::Chunked),
            ("Transfer-Encoding: gzip, chunked", Body::Chunked),
            ("Transfer-Encoding: chunked, gzip", Body::UntilClose),
        ] {
            assert_eq!(
                head(&format!("HTTP/1.1 200 x\r\n{fields}{}\r\n", if fields.is_empty() { "" } else { "\r\n" })).body,
                body,
                "{fields}"
            );
        }
        assert_eq!(
            head("HTTP/1.0 200 x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n").body,
            Body::Length(5)
        );
    }
}
