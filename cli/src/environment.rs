//! The settings file: the counterpart, for commands, of systemd's `EnvironmentFile=` for daemons, in the same form
//! (systemd.exec(5)).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ondat_telemetry::config::builder::ConfigBuilder;
use ondat_telemetry::config::setting::LONGEST_DOCUMENT;
use ondat_telemetry::error::Error;
use ondat_telemetry::state::{Look, StateDir, layout};
use ondat_telemetry::switch::{Kind, Source, Switch, objects};
use ondat_telemetry::sys::descriptor::open_regular;

/// The names of the library's own variables begin with it.
const OURS: &str = "ONDAT_TELEMETRY_";
/// The variable that makes a file secret.
pub(crate) const IDENTITY_KEY: &str = "ONDAT_TELEMETRY_IDENTITY_KEY";
/// Set by a web server for a CGI program, by nobody else.
const CGI: &str = "REQUEST_METHOD";
/// The most lines that a warning names.
const MOST_NAMED: usize = 5;

/// A settings file, as it was read.
pub(crate) struct SettingsFile {
    path: PathBuf,
    mode: u32,
    variables: BTreeMap<String, Variable>,
    /// The numbers of the lines that assign nothing.
    passed_over: Vec<usize>,
}

struct Variable {
    line: usize,
    value: String,
}

/// Which of its variables count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of them.
    All,
    /// Those that turn something off: another file goes in its place.
    Switches,
}

impl SettingsFile {
    /// The file that an option names. Whatever else bears the name (a folder, a FIFO that nobody writes to) is refused.
    pub(crate) fn named(path: &Path) -> Result<Self, Error> {
        let failed = |why: &str| refused(path, why);
        let file = open_regular(path).map_err(|error| failed(&error.to_string()))?;
        let mode = file.meta().map_err(|error| failed(&error.to_string()))?.st_mode;
        let mut bytes = Vec::new();
        let read = file.take(LONGEST_DOCUMENT as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed(&error.to_string()))?;
        Self::parse(path, mode, &bytes)
    }

    /// `settings.env` in the state directory; none where there is none, or where the directory cannot be looked into: everything
    /// is off then, and others say why.
    pub(crate) fn of(dir: &StateDir) -> Result<Option<Self>, Error> {
        let path = dir.path().join(layout::SETTINGS);
        match dir.root().look(layout::SETTINGS) {
            Look::NoFile | Look::NoFolder => Ok(None),
            Look::Denied(_) | Look::Unknown(_) if is_unknown(&dir.root().look(layout::SWITCHES)) => Ok(None),
            Look::Denied(why) | Look::Unknown(why) | Look::Unreadable(why) => {
                Err(Error::InvalidArgument(format!("settings file {why}")))
            }
            Look::Bytes(bytes) => {
                let mode = path.symlink_metadata().map_or(0, |meta| meta.mode());
                Self::parse(&path, mode, &bytes).map(Some)
            }
        }
    }

    fn parse(path: &Path, mode: u32, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > LONGEST_DOCUMENT {
            return Err(refused(path, &format!("longer than {LONGEST_DOCUMENT} bytes")));
        }
        let mut file = Self { path: path.to_owned(), mode, variables: BTreeMap::new(), passed_over: Vec::new() };
        for assignment in assignments(bytes).map_err(|why| refused(path, &why))? {
            let line = assignment.line;
            match assignment.read().map_err(|why| refused(path, &format!("line {line}: {why}")))? {
                Some((name, value)) => file.assign(name, Variable { line, value }),
                None => file.passed_over.push(line),
            }
        }
        Ok(file)
    }

    /// The last word holds, but off wins.
    fn assign(&mut self, name: String, variable: Variable) {
        let is_off = self.variables.get(&name).is_some_and(|before| objects(&before.value));
        if !(is_off && is_switch(&name)) {
            self.variables.insert(name, variable);
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a variable, unless it is empty.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|variable| variable.value.as_str()).filter(|value| !value.is_empty())
    }

    /// Says it to the settings. What the environment sets goes before, but nothing is turned on by it. Returns what is odd about
    /// the file.
    pub(crate) fn load(&self, extent: Extent, builder: &mut ConfigBuilder) -> Result<Vec<String>, Error> {
        let known = RefCell::new(BTreeSet::new());
        let path = self.path.display();
        let origin = |variable: &str| Source::new(Kind::SettingsFile, format!("{path} {variable}"));
        builder.load_variables(&origin, |name| {
            known.borrow_mut().insert(name.to_owned());
            let is_wanted = is_switch(name) || (extent == Extent::All && name != CGI && !is_in_environment(name));
            Ok(self.value(name).filter(|_| is_wanted).map(str::to_owned))
        });
        if let Some(error) = builder.error() {
            return Err(Error::InvalidConfig(format!("settings file {path}: {error}")));
        }
        Ok(if extent == Extent::All { self.warnings(&known.into_inner()) } else { Vec::new() })
    }

    fn warnings(&self, known: &BTreeSet<String>) -> Vec<String> {
        let path = self.path.display();
        let mut warnings = Vec::new();
        if self.mode & 0o004 != 0 && self.value(IDENTITY_KEY).is_some() {
            warnings.push(format!(
                "settings file {path}: everybody may read the identity key in it (mode {:04o}): chmod o-r",
                self.mode & 0o7777
            ));
        }
        if self.mode & 0o002 != 0 {
            warnings.push(format!(
                "settings file {path}: everybody may change it (mode {:04o}): chmod o-w",
                self.mode & 0o7777
            ));
        }
        if !self.passed_over.is_empty() {
            let lines = some(self.passed_over.iter().map(ToString::to_string));
            warnings.push(format!("settings file {path}: not of the form NAME=VALUE and passed over: line {lines}"));
        }
        // The file may be that of a whole daemon: other programs' variables are nobody's mistake.
        let is_odd = |name: &str| {
            let meant = name.to_ascii_uppercase();
            !known.contains(name) && (meant.starts_with(OURS) || is_switch(&meant))
        };
        let odd = self.variables.iter().filter(|(name, _)| is_odd(name));
        let odd: Vec<String> = odd.map(|(name, variable)| format!("{name} (line {})", variable.line)).collect();
        if !odd.is_empty() {
            warnings.push(format!("settings file {path}: no setting and passed over: {}", some(odd.into_iter())));
        }
        warnings
    }
}

fn is_unknown(look: &Look) -> bool {
    matches!(look, Look::Denied(_) | Look::Unknown(_))
}

fn refused(path: &Path, why: &str) -> Error {
    Error::InvalidArgument(format!("settings file {}: {why}", path.display()))
}

fn is_switch(name: &str) -> bool {
    !Switch::of_variable(name).is_empty()
}

fn is_in_environment(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// The first few of them, and how many more there are.
fn some(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(MOST_NAMED);
    let named = names.take(MOST_NAMED).collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// What stands before and after a `=`; no value where there is none.
#[derive(Debug, Default, PartialEq, Eq)]
struct Assignment {
    line: usize,
    name: Vec<u8>,
    value: Option<Vec<u8>>,
}

impl Assignment {
    /// Name and value; none where systemd passes it over. The error says why the whole file is refused.
    fn read(self) -> Result<Option<(String, String)>, String> {
        let Some(value) = self.value else { return Ok(None) };
        let name = String::from_utf8(self.name).map_err(|_| "what stands before = is not UTF-8".to_owned())?;
        if name.strip_prefix("export").is_some_and(|rest| rest.starts_with([' ', '\t'])) {
            return Err("`export` is a word of shells, and no shell reads this file: write NAME=VALUE".to_owned());
        }
        let value = String::from_utf8(value);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_name) {
            return value.map(|_| None).map_err(|_| "the value is not UTF-8".to_owned());
        }
        let value = value.map_err(|_| format!("the value of {name} is not UTF-8"))?;
        Ok(Some((name, value)))
    }
}

/// Where in an assignment a byte stands, as in systemd's `parse_env_file`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    BeforeName,
    Comment,
    CommentEscape,
    Name,
    BeforeValue,
    Value,
    ValueEscape,
    Single,
    Double,
    DoubleEscape,
}

/// The lines that are no comment. A zero byte is refused, as systemd does.
fn assignments(bytes: &[u8]) -> Result<Vec<Assignment>, String> {
    let mut reader =
        Reader { at: At::BeforeName, line: 1, begun: Assignment::default(), trim: None, found: Vec::new() };
    for byte in bytes {
        if *byte == 0 {
            return Err(format!("line {}: a zero byte", reader.line));
        }
        reader.take(*byte);
        reader.line += usize::from(*byte == b'\n');
    }
    reader.end();
    Ok(reader.found)
}

struct Reader {
    at: At,
    line: usize,
    begun: Assignment,
    /// The length of name or value without the white space at its end, where there is some.
    trim: Option<usize>,
    found: Vec<Assignment>,
}

impl Reader {
    fn take(&mut self, byte: u8) {
        let (is_end, is_space) = (matches!(byte, b'\n' | b'\r'), matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        self.at = match (self.at, byte) {
            (At::BeforeName, b'#' | b';') => At::Comment,
            (At::BeforeName, _) if is_space => At::BeforeName,
            (At::BeforeName, _) => {
                self.begun.line = self.line;
                self.push(byte, At::Name)
            }
            (At::Comment, b'\\') => At::CommentEscape,
            // Before systemd 254 a backslash made the next line part of the comment: what turns something off there counts.
            (At::Comment | At::CommentEscape, _) if is_end => At::BeforeName,
            (At::Comment | At::CommentEscape, _) => At::Comment,
            (At::Name, b'=') => self.begin_value(),
            (At::Name | At::BeforeValue | At::Value, _) if is_end => self.finish(),
            (At::Name, _) => self.push_trimmed(byte, At::Name),
            (At::BeforeValue, b'\'') => At::Single,
            (At::BeforeValue, b'"') => At::Double,
            (At::BeforeValue, _) if is_space => At::BeforeValue,
            (At::BeforeValue | At::Value, b'\\') => {
                self.trim = None;
                At::ValueEscape
            }
            (At::BeforeValue | At::Value, _) => self.push_trimmed(byte, At::Value),
            (At::ValueEscape, _) if is_end => At::Value,
            (At::ValueEscape, _) => self.push(byte, At::Value),
            (At::Single, b'\'') | (At::Double, b'"') => At::BeforeValue,
            (At::Single, _) => self.push(byte, At::Single),
            (At::Double, b'\\') => At::DoubleEscape,
            (At::Double, _) => self.push(byte, At::Double),
            (At::DoubleEscape, b'\n') => At::Double,
            (At::DoubleEscape, b'"' | b'\\' | b'`' | b'$') => self.push(byte, At::Double),
            (At::DoubleEscape, _) => {
                self.push(b'\\', At::Double);
                self.push(byte, At::Double)
            }
        };
    }

    fn push(&mut self, byte: u8, at: At) -> At {
        self.begun.value.as_mut().unwrap_or(&mut self.begun.name).push(byte);
        at
    }

    /// The same; white space counts where something else follows.
    fn push_trimmed(&mut self, byte: u8, at: At) -> At {
        let length = self.begun.value.as_ref().unwrap_or(&self.begun.name).len();
        self.trim = if matches!(byte, b' ' | b'\t') { self.trim.or(Some(length)) } else { None };
        self.push(byte, at)
    }

    fn begin_value(&mut self) -> At {
        self.cut();
        self.begun.value = Some(Vec::new());
        At::BeforeValue
    }

    fn cut(&mut self) {
        if let Some(length) = self.trim.take() {
            self.begun.value.as_mut().unwrap_or(&mut self.begun.name).truncate(length);
        }
    }

    fn finish(&mut self) -> At {
        self.cut();
        self.found.push(std::mem::take(&mut self.begun));
        At::BeforeName
    }

    fn end(&mut self) {
        if !matches!(self.at, At::BeforeName | At::Comment | At::CommentEscape) {
            self.finish();
        }
    }
}
