//! Query logs of DNS servers in any format: finds the names for which a TXT record was asked.
//!
//! A line contains a name beside a type ([`TYPES`]) in words, or named members ([`MEMBERS`]), or a name alone. Each server
//! has its own order of words:
//!
//! ```text
//! query: NAME IN TXT                       BIND
//! NAME. TXT IN                             Unbound
//! wants 'NAME|TXT'                         PowerDNS
//! "TXT IN NAME. udp 120 false 1232"        CoreDNS
//! query[TXT] NAME from                     dnsmasq
//! Packet from ADDRESS for NAME. TXT with   dnsdist
//! 1.0 TIME ZONE NAME TXT NOERROR           Route 53
//! AQ ... NAME/IN/TXT, "NAME." IN TXT       dnstap, as dnstap-read and dnstap-ldns print it
//! ```
//!
//! Anybody can ask a DNS server for anything, so a log may contain anything. Memory and time do not grow with that.

use std::io::{self, BufRead, BufReader, Read};

/// The longest piece that is examined at once, in bytes. A shorter line is one piece. A longer line is cut where an object of JSON
/// ends.
pub(crate) const PIECE_BYTES: usize = 16_384;
/// How many bytes are read at once.
const READ_BYTES: usize = 1 << 20;

/// The members that hold a question's name and its type, in small letters and without `_`, `-` and `.`. The first row wins
/// in an object that has several.
const MEMBERS: [[&str; 2]; 4] = [
    // Cloudflare, Google Cloud, Azure, Route 53 Resolver.
    ["queryname", "querytype"],
    // dnsdist, Elastic Common Schema.
    ["dnsquestionname", "dnsquestiontype"],
    // PowerDNS Recursor, collectors of dnstap.
    ["qname", "qtype"],
    // The collector's queries.jsonl; `question` of Elastic Common Schema.
    ["name", "type"],
];

/// The types of records that have a word (IANA, "DNS Parameters"); the others are written TYPE and a number.
const TYPES: &[&str] = &[
    "A",
    "AAAA",
    "ANY",
    "CAA",
    "CDNSKEY",
    "CDS",
    "CERT",
    "CNAME",
    "DNAME",
    "DNSKEY",
    "DS",
    "HINFO",
    "HTTPS",
    "LOC",
    "MX",
    "NAPTR",
    "NS",
    "NSEC",
    "NSEC3",
    "NSEC3PARAM",
    "OPENPGPKEY",
    "PTR",
    "RRSIG",
    "SOA",
    "SPF",
    "SRV",
    "SSHFP",
    "SVCB",
    "TLSA",
    "TXT",
    "URI",
];
const TXT: &str = "TXT";
const TXT_NUMBER: &str = "16";

/// The words before the name in lines about an answer: dnsmasq's.
const ANSWERED: [&str; 4] = ["cached", "config", "forwarded", "reply"];

/// Splits a log into pieces.
pub(crate) struct Pieces<R: Read> {
    input: BufReader<R>,
    bytes: Vec<u8>,
    /// How many of the `bytes` were returned.
    given: usize,
}

impl<R: Read> Pieces<R> {
    /// Starts with this log.
    pub(crate) fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(READ_BYTES, input), bytes: Vec::new(), given: 0 }
    }

    /// Returns the first bytes, which tell the type of a file.
    pub(crate) fn start(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    /// Returns the next piece, and whether a line ends with it.
    pub(crate) fn next(&mut self) -> io::Result<Option<(&[u8], bool)>> {
        self.bytes.drain(..self.given);
        let room = PIECE_BYTES.saturating_sub(self.bytes.len());
        self.input.by_ref().take(room as u64).read_until(b'\n', &mut self.bytes)?;
        let is_end = self.bytes.len() < PIECE_BYTES || self.bytes.ends_with(b"\n");
        let object = if is_end { None } else { self.bytes.iter().rposition(|byte| *byte == b'}') };
        self.given = object.map_or(self.bytes.len(), |end| end + 1);
        Ok((self.given > 0).then(|| (&self.bytes[..self.given], is_end)))
    }
}

/// The state of reading a log.
#[derive(Default)]
pub(crate) struct Reader {
    /// The kind of the line whose pieces are being read.
    line: Line,
    object: Object,
    /// dnstap-read -y says some lines above its question what kind of message it is in.
    is_response: bool,
    understood: u64,
    not_understood: u64,
    /// The number of lines that are part of a larger item, as in pretty-printed JSON and YAML.
    parts: u64,
    has_whole: bool,
}

/// The kind of a line: the highest kind of its pieces.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    #[default]
    Blank,
    Unknown,
    /// One of several lines that make an item together.
    Part,
    /// The last line of such an item.
    Whole,
    Understood,
}

impl Reader {
    /// Examines a piece, and passes on each name for which TXT was asked and that may be one of ours.
    pub(crate) fn take(&mut self, piece: &[u8], is_end: bool, found: &mut impl FnMut(&[u8])) {
        self.line = self.line.max(self.look(piece, found));
        if is_end {
            self.count();
        }
    }

    /// Passes on the last name at the end of the log.
    pub(crate) fn finish(&mut self, found: &mut impl FnMut(&[u8])) {
        if self.object.flush(found) {
            self.has_whole = true;
        }
        self.count();
    }

    /// The number of lines that tell what was asked, or that nothing was.
    pub(crate) fn understood(&self) -> u64 {
        self.understood + if self.has_whole { self.parts } else { 0 }
    }

    /// The number of the other lines.
    pub(crate) fn not_understood(&self) -> u64 {
        self.not_understood + if self.has_whole { 0 } else { self.parts }
    }

    fn count(&mut self) {
        match std::mem::take(&mut self.line) {
            Line::Blank => {}
            Line::Unknown => self.not_understood += 1,
            Line::Part => self.parts += 1,
            Line::Whole => {
                self.parts += 1;
                self.has_whole = true;
            }
            Line::Understood => self.understood += 1,
        }
    }

    fn look(&mut self, piece: &[u8], found: &mut impl FnMut(&[u8])) -> Line {
        // Files written on Windows start with a byte order mark.
        let text = piece.strip_prefix(b"\xef\xbb\xbf").unwrap_or(piece).trim_ascii();
        if text.is_empty() {
            return Line::Blank;
        }
        if let Some(kind) = text.strip_prefix(b"type: ") {
            self.is_response = kind.ends_with(b"_RESPONSE");
            return Line::Part;
        }
        if piece.starts_with(b"{") {
            // A new object begins, even if the last one was not complete.
            self.has_whole |= self.object.flush(found);
            self.object.depth = 0;
        }
        let by_members = self.object.take(text, found);
        if by_members > Line::Part {
            return by_members;
        }
        match asked(text) {
            Asked::Nothing if is_part(text) => by_members.max(Line::Part),
            Asked::Nothing => by_members,
            Asked::Other => Line::Understood,
            // This is the form of YAML.
            Asked::Ours(_) if self.is_response => Line::Whole,
            Asked::Ours(name) => {
                found(name);
                if text.starts_with(b"- ") { Line::Whole } else { Line::Understood }
            }
        }
    }
}

/// Whether this is a line of YAML, or contains only brackets.
fn is_part(text: &[u8]) -> bool {
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let rest = &text[text.iter().take_while(|byte| is_key(byte)).count()..];
    let is_member = rest.len() < text.len() && (rest == b":" || rest.starts_with(b": "));
    is_member || text == b"---" || text.iter().all(|byte| b"{}[], ".contains(byte))
}

/// An object of JSON, possibly over several lines, or a line of `key=value`. Its members are being read. Of inner objects only the
/// depth is remembered.
#[derive(Default)]
struct Object {
    depth: u64,
    name: Option<Name>,
    /// For each row of [`MEMBERS`], the depth of a type and whether it is TXT.
    types: [Option<(u64, bool)>; MEMBERS.len()],
    is_response: bool,
}

struct Name {
    row: usize,
    depth: u64,
    /// None: the name cannot be one of ours.
    ours: Option<Vec<u8>>,
}

impl Object {
    /// Reads a part of a line. Returns Whole or Understood if it ends a question.
    fn take(&mut self, text: &[u8], found: &mut impl FnMut(&[u8])) -> Line {
        let began_before = self.name.is_some();
        let (mut line, mut is_flat) = (Line::Unknown, false);
        let ends = if began_before { Line::Whole } else { Line::Understood };
        for token in (Tokens { text, at: 0 }) {
            match token {
                Token::Open => self.depth += 1,
                Token::Close => {
                    if self.name.as_ref().is_some_and(|name| name.depth == self.depth) && self.flush(found) {
                        line = line.max(ends);
                    }
                    self.forget_types();
                    self.depth = self.depth.saturating_sub(1);
                }
                Token::Member { key, value, is_flat: flat } => {
                    is_flat |= flat;
                    line = line.max(if flat { Line::Unknown } else { Line::Part });
                    if self.member(key, value, found) {
                        line = line.max(ends);
                    }
                }
            }
        }
        if is_flat && self.flush(found) {
            line = Line::Understood;
        }
        line
    }

    /// Takes a member. True: it ends the question before it.
    fn member(&mut self, key: &[u8], value: &[u8], found: &mut impl FnMut(&[u8])) -> bool {
        if value.is_empty() {
            return false;
        }
        if is_key(key, "msg") {
            self.is_response = value.starts_with(b"Logging response");
        }
        for (row, [name, kind]) in MEMBERS.iter().enumerate() {
            if is_key(key, kind) {
                self.types[row] = is_txt(value).map(|is_txt| (self.depth, is_txt)).or(self.types[row]);
                return false;
            }
            if is_key(key, name) {
                return self.take_name(row, value, found);
            }
        }
        false
    }

    fn take_name(&mut self, row: usize, value: &[u8], found: &mut impl FnMut(&[u8])) -> bool {
        let has_ended = match &self.name {
            Some(known) if known.depth == self.depth && known.row < row => return false,
            Some(known) if known.depth == self.depth && known.row > row => false,
            Some(_) => self.flush(found),
            None => false,
        };
        let value = unescaped(value);
        self.name = Some(Name { row, depth: self.depth, ours: is_like_ours(&value).then_some(value) });
        has_ended
    }

    fn forget_types(&mut self) {
        for kind in &mut self.types {
            kind.take_if(|(depth, _)| *depth == self.depth);
        }
    }

    /// Passes on the name. False: there is none.
    fn flush(&mut self, found: &mut impl FnMut(&[u8])) -> bool {
        let is_response = std::mem::take(&mut self.is_response);
        let Some(Name { row, depth, ours }) = self.name.take() else { return false };
        let kind = self.types[row].take().filter(|(at, _)| *at == depth);
        // A log may be configured to omit the types.
        let is_asked = kind.is_none_or(|(_, is_txt)| is_txt) && !is_response;
        if let Some(name) = ours.filter(|_| is_asked) {
            found(&name);
        }
        true
    }
}

/// Removes JSON's escapes. Our names contain no characters that need one.
fn unescaped(value: &[u8]) -> Vec<u8> {
    if !value.contains(&b'\\') {
        return value.to_vec();
    }
    serde_json::from_slice::<String>(&[b"\"", value, b"\""].concat())
        .map_or_else(|_| value.to_vec(), String::into_bytes)
}

/// Whether a type is TXT. None: the text is no type.
fn is_txt(value: &[u8]) -> Option<bool> {
    let value = value.strip_prefix(b"TYPE").unwrap_or(value);
    if value.eq_ignore_ascii_case(TXT.as_bytes()) || value == TXT_NUMBER.as_bytes() {
        return Some(true);
    }
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let is_word = TYPES.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()));
    (is_number || is_word).then_some(false)
}

fn is_key(key: &[u8], expected: &str) -> bool {
    let letters = key.iter().filter(|byte| !matches!(byte, b'_' | b'-' | b'.'));
    letters.map(u8::to_ascii_lowercase).eq(expected.bytes())
}

enum Token<'a> {
    Open,
    Close,
    /// Flat: `key=value`.
    Member {
        key: &'a [u8],
        value: &'a [u8],
        is_flat: bool,
    },
}

/// Iterates over the members in a line, and over the starts and ends of objects. A truncated member is skipped.
struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = self.text.get(self.at..)?;
            let start = rest.iter().position(|byte| STARTS[usize::from(*byte)])?;
            self.at += start + 1;
            match rest[start] {
                b'{' => return Some(Token::Open),
                b'}' => return Some(Token::Close),
                b'"' => {
                    let key = self.string()?;
                    if let Some(value) = self.value_of_json() {
                        return Some(Token::Member { key, value, is_flat: false });
                    }
                }
                b'=' => {
                    let before = &self.text[..self.at - 1];
                    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
                    let letters = before.iter().rev().take_while(|byte| is_key(byte)).count();
                    if letters > 0
                        && let Some(value) = self.value()
                    {
                        return Some(Token::Member { key: &before[before.len() - letters..], value, is_flat: true });
                    }
                }
                _ => {}
            }
        }
    }
}

impl<'a> Tokens<'a> {
    /// Returns the rest of a string after its first quotation mark.
    fn string(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        loop {
            let byte = self.text.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => return Some(&self.text[start..self.at - 1]),
                b'\\' => self.at += 1,
                _ => {}
            }
        }
    }

    /// Returns the value after a colon. None: the value is an object or a list.
    fn value_of_json(&mut self) -> Option<&'a [u8]> {
        self.pass_blanks();
        self.text.get(self.at).filter(|byte| **byte == b':')?;
        self.at += 1;
        self.pass_blanks();
        self.value().or(Some(b""))
    }

    fn value(&mut self) -> Option<&'a [u8]> {
        match self.text.get(self.at)? {
            b'{' | b'[' => None,
            b'"' => {
                self.at += 1;
                self.string()
            }
            _ => {
                let rest = &self.text[self.at..];
                let end = rest.iter().position(|byte| byte.is_ascii_whitespace() || b",}]".contains(byte));
                let value = &rest[..end.unwrap_or(rest.len())];
                self.at += value.len();
                Some(value)
            }
        }
    }

    fn pass_blanks(&mut self) {
        self.at +=
            self.text[self.at.min(self.text.len())..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }
}

/// The content of a line of words.
enum Asked<'a> {
    Nothing,
    /// A question for another type, or an answer.
    Other,
    Ours(&'a [u8]),
}

/// The bytes between words.
const SEPARATORS: [bool; 256] = table(b" \t\n\r\x0b\x0c\"'()[]{},;/|");
/// The bytes with which members and objects begin.
const STARTS: [bool; 256] = table(b"{}\"=");
/// The bytes of a name.
const LETTERS: [bool; 256] = table(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_*\\");

/// Makes a table of these bytes. A log has 10^9 bytes, and each is looked up more than once.
const fn table(bytes: &[u8]) -> [bool; 256] {
    let (mut table, mut at) = ([false; 256], 0);
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
}

fn asked(text: &[u8]) -> Asked<'_> {
    let mut words =
        text.split(|byte| SEPARATORS[usize::from(*byte)]).filter(|word| !word.is_empty() && *word != b"IN").peekable();
    let (mut before, mut count, mut is_answer, mut said): (&[u8], u64, bool, _) = (b"", 0, false, Asked::Nothing);
    while let Some(word) = words.next() {
        count += 1;
        is_answer |= is_answer_mark(word);
        if is_type(word) {
            let neighbours = [before, words.peek().copied().unwrap_or_default()];
            let is_ours = |word: &&[u8]| is_like_ours(word) && is_name(word);
            if word == TXT.as_bytes()
                && !is_answer
                && let Some(name) = neighbours.into_iter().find(is_ours)
            {
                return Asked::Ours(name);
            }
            if neighbours.into_iter().any(is_name) {
                said = Asked::Other;
            }
        } else if is_name(word) && ANSWERED.iter().any(|answered| before == answered.as_bytes()) {
            said = Asked::Other;
        }
        before = word;
    }
    // The log has one name in each line.
    match count {
        1 if is_like_ours(before) => Asked::Ours(before),
        1 if is_name(before) => Asked::Other,
        _ => said,
    }
}

/// Whether a word marks an answer. dnstap marks responses with AR, CR, RR and so on; dnsdist begins their lines with "Answer to".
fn is_answer_mark(word: &[u8]) -> bool {
    matches!(word, [kind, b'R'] if b"ACFRSTU".contains(kind)) || word == b"Answer"
}

/// Whether a word is a type. Every server writes types in upper case, and "a" is an English word.
fn is_type(word: &[u8]) -> bool {
    let is_number = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    word.first().is_some_and(u8::is_ascii_uppercase)
        && word.len() <= "NSEC3PARAM".len()
        && (word.strip_prefix(b"TYPE").is_some_and(is_number) || TYPES.iter().any(|kind| word == kind.as_bytes()))
}

fn is_name(word: &[u8]) -> bool {
    word.contains(&b'.')
        && word.iter().all(|byte| LETTERS[usize::from(*byte)])
        && word.iter().any(u8::is_ascii_alphabetic)
}

/// Whether a name contains the label of version queries.
fn is_like_ours(name: &[u8]) -> bool {
    name.windows(4).any(|part| matches!(part, [b'.', b'o' | b'O', b'1', b'.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "A.b.o1.z.example";

    /// Returns the names, and the numbers of lines that are understood and not understood.
    fn read(log: &str) -> (Vec<String>, u64, u64) {
        let (mut pieces, mut reader, mut names) = (Pieces::new(log.as_bytes()), Reader::default(), Vec::new());
        let mut found = |name: &[u8]| names.push(String::from_utf8(name.to_vec()).unwrap());
        while let Some((piece, is_end)) = pieces.next().unwrap() {
            reader.take(piece, is_end, &mut found);
        }
        reader.finish(&mut found);
        let names = names.iter().map(|name| name.trim_end_matches('.').to_owned()).collect();
        (names, reader.understood(), reader.not_understood())
    }

    #[test]
    fn every_servers_log_names_the_question() {
        for line in [
            "24-Nov-2026 22:12:20.101 client @0x7f5c 127.0.0.1#38466 (A.b.o1.z.example): query: A.b.o1.z.example IN TXT -E(0) (127.0.0.1)",
            "[1795558340] unbound[1:0] info: 127.0.0.1 A.b.o1.z.example. TXT IN",
            "Nov 24 22:12:20 Remote 127.0.0.1 wants 'A.b.o1.z.example|TXT', do = 0, bufsize = 1232: packetcache MISS",
            "[INFO] 127.0.0.1:40212 - 1234 \"TXT IN A.b.o1.z.example. udp 120 false 1232\" NOERROR qr,aa 283 0.0001s",
            "Nov 24 22:12:20 dnsmasq[1]: query[TXT] A.b.o1.z.example from 127.0.0.1",
            "24-Nov-2026 22:12:20.101 AQ 127.0.0.1:38466 -> 127.0.0.1:53 UDP 121b A.b.o1.z.example/IN/TXT",
            "22:12:20.101000 AQ 127.0.0.1 UDP 121b \"A.b.o1.z.example.\" IN TXT",
            "    - A.b.o1.z.example. IN TXT",
            // dnsdist, LogAction with a time, and the structured log of 2.1.
            "[1795558340.101000000] Packet from 127.0.0.1:38466 for A.b.o1.z.example. TXT with id 4711",
            "msg=\"Logging packet\" subsystem=\"rules\" level=\"0\" prio=\"Info\" dns.question.name=\"A.b.o1.z.example.\" dns.question.type=\"TXT\"",
            "msg=Question qname=A.b.o1.z.example. qtype=TXT",
            // Route 53, hosted zone and Resolver; as CloudWatch and its command line hand it out.
            "1.0 2017-12-13T08:16:02.130Z Z123412341234 A.b.o1.z.example TXT NOERROR UDP FRA6 192.168.1.1 192.168.222.0/24",
            "2017-12-13T08:16:03.000000+00:00 Z123412341234/FRA6 1.0 2017-12-13T08:16:02.130Z Z123412341234 A.b.o1.z.example TXT NOERROR TCP IAD12 192.168.3.1 -",
            r#"{"timestamp":1513152962130,"message":"1.0 2017-12-13T08:16:02.130Z Z123412341234 A.b.o1.z.example TXT NOERROR UDP FRA6 192.168.1.1 -"}"#,
            r#"{"version":"1.100000","account_id":"111122223333","region":"us-east-1","vpc_id":"vpc-7example","query_timestamp":"2021-02-04T17:51:55Z","query_name":"A.b.o1.z.example.","query_type":"TXT","query_class":"IN","rcode":"NOERROR","answers":[{"Rdata":"\"o1 v=*\"","Type":"TXT","Class":"IN"}],"srcaddr":"4.5.64.102","srcids":{"instance":"i-0d15cd0d3example"}}"#,
            // Cloudflare: DNS logs, Gateway DNS.
            r#"{"ColoCode":"SFO","EDNSSubnet":"","EDNSSubnetLength":0,"QueryName":"A.b.o1.z.example","QueryType":16,"ResponseCached":false,"ResponseCode":0,"SourceIP":"192.0.2.1","Timestamp":"2026-11-24T22:12:20Z"}"#,
            r#"{"Datetime":"2026-11-24T22:12:20Z","QueryName":"A.b.o1.z.example","QueryNameReversed":"example.z.o1.b.A","QueryType":16,"QueryTypeName":"TXT"}"#,
            // The log is configured to have only this member.
            r#"{"QueryName":"A.b.o1.z.example"}"#,
            // Google Cloud DNS.
            r#"{"insertId":"1x","jsonPayload":{"authAnswer":true,"protocol":"UDP","queryName":"A.b.o1.z.example.","queryType":"TXT","rdata":"A.b.o1.z.example.\t300\tIN\ttxt\t\"o1 v=*\"","responseCode":"NOERROR","serverLatency":0},"resource":{"type":"dns_query","labels":{"target_type":"public-zone"}}}"#,
            // Azure: diagnostic settings, and a row of DNSQueryLogs.
            r#"{"time":"2026-11-24T22:12:20Z","category":"DnsResponse","operationName":"DnsResponse","properties":{"queryName":"A.b.o1.z.example.","queryType":"TXT","queryClass":"IN","responseCode":0,"answer":[{"RData":"x","Type":"TXT"}]}}"#,
            r#"{"TimeGenerated":"2026-11-24T22:12:20Z","QueryClass":"IN","QueryType":"TXT","QueryName":"A.b.o1.z.example.","Type":"DNSQueryLogs"}"#,
            // Our own collector's, Elastic Common Schema, a container's log, a record behind syslog's words.
            r#"{"time":"2026-11-24T22:12:20Z","name":"A.b.o1.z.example."}"#,
            r#"{"dns":{"type":"query","question":{"class":"IN","type":"TXT","name":"A.b.o1.z.example"}}}"#,
            r#"{"log":"[INFO] 127.0.0.1:40212 - 1234 \"TXT IN A.b.o1.z.example. udp 120 false 1232\" NOERROR qr,aa\n","stream":"stdout"}"#,
            r#"Nov 24 22:12:20 host shipper: {"QueryName":"A.b.o1.z.example","QueryType":"TYPE16"}"#,
            "A.b.o1.z.example",
            "A.b.o1.z.example.\r",
            "\u{feff}A.b.o1.z.example.",
        ] {
            assert_eq!(read(line), (vec![NAME.to_owned()], 1, 0), "{line}");
            assert_eq!(read(&format!("{line}\n{line}\n")), (vec![NAME.to_owned(); 2], 2, 0), "{line}");
        }
    }

    #[test]
    fn other_types_responses_and_other_names_are_passed_over() {
        for line in [
            "query: a.b.o1.z.example IN A +E(0)K (127.0.0.1)",
            "query: www.z.example IN TXT + (127.0.0.1)",
            "24-Nov-2026 22:12:20.101 AR 127.0.0.1:38466 <- 127.0.0.1:53 UDP 283b a.b.o1.z.example/IN/TXT",
            "Answer to 127.0.0.1:38466 for a.b.o1.z.example. TXT (No Error) with id 4711",
            "Nov 24 22:12:20 dnsmasq[1]: reply a.b.o1.z.example is <TXT>",
            "1.0 2017-12-13T08:16:02.130Z Z123412341234 example.com AAAA NOERROR UDP FRA6 192.168.1.1 -",
            r#"{"QueryName":"a.b.o1.z.example","QueryType":1}"#,
            r#"{"QueryType":28,"QueryName":"a.b.o1.z.example"}"#,
            r#"{"jsonPayload":{"queryName":"www.z.example.","queryType":"TXT"}}"#,
            "msg=\"Logging response packet\" dns.question.name=\"a.b.o1.z.example.\" dns.question.type=\"TXT\"",
            "www.z.example",
            "query: a\\032b.z.example IN TYPE65 + (127.0.0.1)",
        ] {
            assert_eq!(read(line), (Vec::new(), 1, 0), "{line}");
        }
    }

    #[test]
    fn what_says_nothing_is_counted() {
        for line in [
            "a.b.o1.z.example and, much later, TXT",
            "TXT",
            "24-Nov-2026 22:12:20.101 starting BIND 9.18",
            r#"{"dns_label":"a.b.o1.z.example","dns_kind":"TXT"}"#,
            "SFO,a.b.o1.z.example,16,0",
            "\u{0}\u{1}\u{2}",
            "\"QueryName",
            "{\"QueryName\":",
            "=",
            "\\",
        ] {
            assert_eq!(read(line), (Vec::new(), 0, 1), "{line}");
        }
        assert_eq!(read("\n \n\r\n"), (Vec::new(), 0, 0));
    }

    #[test]
    fn records_of_several_lines_and_several_records_of_a_line_are_read() {
        let pretty = "[\n  {\n    \"insertId\": \"1\",\n    \"jsonPayload\": {\n      \"queryName\": \"A.b.o1.z.example.\",\n      \
                      \"queryType\": \"TXT\"\n    },\n    \"severity\": \"INFO\"\n  },\n  {\n    \"jsonPayload\": {\n      \
                      \"queryName\": \"c.d.o1.z.example.\",\n      \"queryType\": \"A\"\n    }\n  }\n]\n";
        let (names, understood, not_understood) = read(pretty);
        assert_eq!((names.as_slice(), not_understood), (&[NAME.to_owned()][..], 0));
        assert_eq!(understood, pretty.lines().count() as u64);
        let yaml = "type: MESSAGE\nidentity: \"ns1\"\nmessage:\n  type: AUTH_QUERY\n  query_message_data:\n    QUESTION_SECTION:\n      \
                    - A.b.o1.z.example. IN TXT\n---\ntype: MESSAGE\nmessage:\n  type: AUTH_RESPONSE\n  response_message_data:\n    \
                    QUESTION_SECTION:\n      - A.b.o1.z.example. IN TXT\n---\n";
        assert_eq!(read(yaml), (vec![NAME.to_owned()], yaml.lines().count() as u64, 0));
        let one = r#"{"queryName":"A.b.o1.z.example","queryType":"TXT"}"#;
        let other = r#"{"queryType":"A","queryName":"c.d.o1.z.example"}"#;
        let line = format!("[{one},{other},{one}]");
        assert_eq!(read(&line), (vec![NAME.to_owned(); 2], 1, 0));
        // The line is much longer than a piece.
        let line = format!("[{}]", vec![one; 10_000].join(","));
        assert_eq!(read(&line), (vec![NAME.to_owned(); 10_000], 1, 0));
    }

    #[test]
    fn a_record_that_was_cut_short_spoils_no_other() {
        let whole = r#"{"queryName":"A.b.o1.z.example","queryType":"TXT"}"#;
        for at in 0..whole.len() {
            let (names, ..) = read(&format!("{}\n{whole}\n", &whole[..at]));
            let last = names.last().map(String::as_str);
            assert!(names.len() <= 2 && last == Some(NAME), "{at}: {names:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_read_in_pieces_and_so_is_the_next_one() {
        let long = "x".repeat(100_000);
        let log = format!("{long}\n{NAME}\n{long}");
        assert_eq!(read(&log), (vec![NAME.to_owned()], 1, 2));
        let mut pieces = Pieces::new(log.as_bytes());
        let (mut bytes, mut longest) = (0, 0);
        while let Some((piece, _)) = pieces.next().unwrap() {
            bytes += piece.len();
            longest = longest.max(piece.len());
        }
        assert_eq!((bytes, longest), (log.len(), PIECE_BYTES));
        let deep = format!("{}\n{NAME}\n{}", "{\"a\":[".repeat(1_000_000), "}".repeat(3_000_000));
        assert_eq!(read(&deep), (vec![NAME.to_owned()], 1, 2));
    }
}
