//! DNS messages by hand (RFC 1035, section 4): the ones that no library would write.

use std::fmt;

use crate::server::Question;

pub(crate) const A: u16 = 1;
pub(crate) const CNAME: u16 = 5;
pub(crate) const TXT: u16 = 16;

pub(crate) const IN: u16 = 1;
pub(crate) const CHAOS: u16 = 3;

pub(crate) const FORMERR: u8 = 1;
pub(crate) const SERVFAIL: u8 = 2;
pub(crate) const NXDOMAIN: u8 = 3;
pub(crate) const NOTIMP: u8 = 4;
pub(crate) const REFUSED: u8 = 5;
pub(crate) const NOTAUTH: u8 = 9;

/// Positions in a message: after its id, and after its header, where the question's name stands.
pub(crate) const FLAGS: usize = 2;
pub(crate) const QUESTIONS: usize = 4;
pub(crate) const ANSWERS: usize = 6;
pub(crate) const ADDITIONALS: usize = 10;
pub(crate) const HEADER: usize = 12;

/// A pointer to the question's name, as the owner of a record.
pub(crate) const ASKED: &[u8] = &[0xc0, 12];

/// An OPT record without options: EDNS is spoken (RFC 6891, 6.1.2).
pub(crate) const EDNS: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

impl Question {
    /// The question section: name, type, class.
    pub(crate) fn section(&self) -> &[u8] {
        &self.bytes[HEADER..self.name_end() + 4]
    }

    /// The name in its bytes.
    pub(crate) fn name_bytes(&self) -> &[u8] {
        &self.bytes[HEADER..self.name_end()]
    }

    /// The name that is asked, in the case in which it came.
    pub(crate) fn name(&self) -> String {
        let (mut name, mut at) = (String::new(), HEADER);
        while self.bytes[at] != 0 {
            let label = &self.bytes[at + 1..=at + usize::from(self.bytes[at])];
            name.push_str(std::str::from_utf8(label).unwrap());
            name.push('.');
            at += 1 + label.len();
        }
        name
    }

    /// Type and class.
    pub(crate) fn kind(&self) -> (u16, u16) {
        let number = |at: usize| u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]);
        (number(self.name_end()), number(self.name_end() + 2))
    }

    /// Whether an OPT record follows the question.
    pub(crate) fn has_edns(&self) -> bool {
        self.bytes.get(self.name_end() + 4..).is_some_and(|rest| rest.starts_with(&EDNS[..3]))
    }

    fn name_end(&self) -> usize {
        HEADER + self.bytes[HEADER..].iter().position(|byte| *byte == 0).unwrap() + 1
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.transport, self.name())
    }
}

/// An answer to the question with these records in its answer section.
pub(crate) fn answer(question: &Question, records: &[Vec<u8>]) -> Vec<u8> {
    answer_to(question, &[question.section()], records)
}

/// An answer to these questions instead.
pub(crate) fn answer_to(question: &Question, sections: &[&[u8]], records: &[Vec<u8>]) -> Vec<u8> {
    let count = |number: usize| u16::try_from(number).unwrap().to_be_bytes();
    let mut message = question.bytes[..FLAGS].to_vec();
    // A response; recursion was desired and is available.
    message.extend([0x81, 0x80]);
    message.extend([count(sections.len()), count(records.len()), [0; 2], [0; 2]].concat());
    message.extend(sections.concat());
    message.extend(records.concat());
    message
}

/// The same message with this response code.
pub(crate) fn with_code(mut message: Vec<u8>, code: u8) -> Vec<u8> {
    message[FLAGS + 1] |= code;
    message
}

/// The same message, said to be truncated.
pub(crate) fn truncated(mut message: Vec<u8>) -> Vec<u8> {
    message[FLAGS] |= 0x02;
    message
}

/// The same message with these bytes at a place.
pub(crate) fn with(mut message: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    message[at..at + bytes.len()].copy_from_slice(bytes);
    message
}

/// The same message with an additional record.
pub(crate) fn with_additional(mut message: Vec<u8>, record: &[u8]) -> Vec<u8> {
    message[ADDITIONALS + 1] += 1;
    message.extend(record);
    message
}

/// A question section.
pub(crate) fn section(name: &[u8], kind: u16, class: u16) -> Vec<u8> {
    [name, &kind.to_be_bytes(), &class.to_be_bytes()].concat()
}

/// A record of class IN.
pub(crate) fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [owner, &kind.to_be_bytes(), &IN.to_be_bytes(), &3600_u32.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

/// A TXT record of the asked name.
pub(crate) fn txt(text: &str) -> Vec<u8> {
    txt_of(ASKED, text)
}

/// A TXT record of this owner with one text, in as many strings as it takes.
pub(crate) fn txt_of(owner: &[u8], text: &str) -> Vec<u8> {
    let parts: Vec<&[u8]> = text.as_bytes().chunks(255).collect();
    record(owner, TXT, &strings(&parts))
}

/// Character-strings.
pub(crate) fn strings(parts: &[&[u8]]) -> Vec<u8> {
    let with_length = |part: &&[u8]| [&[u8::try_from(part.len()).unwrap()], *part].concat();
    parts.iter().flat_map(with_length).collect()
}

/// A name, not compressed.
pub(crate) fn name(text: &str) -> Vec<u8> {
    let labels: Vec<&[u8]> = text.trim_end_matches('.').split('.').map(str::as_bytes).collect();
    [strings(&labels), vec![0]].concat()
}
