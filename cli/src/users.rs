//! The users who may change settings through the API: `users.json`, with passwords hashed by argon2. Also `password`,
//! which writes the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use argon2::password_hash::phc::{Output as Derived, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use clap::Args;
use data_encoding::BASE64_NOPAD;
use ondat_telemetry::error::Error;
use ondat_telemetry::state::{StateDir, layout};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Output;
use crate::administration::{self, Actor};
use crate::settings::Options;

/// The file of the users.
pub(crate) const FILE: &str = layout::USERS;
/// The user if none is named.
pub(crate) const DEFAULT_USER: &str = "admin";
/// The shortest password in characters. NIST SP 800-63B-4, 3.1.1.2, asks for 15 for a password without a second factor, and allows
/// no fewer than 8.
const SHORTEST_PASSWORD: usize = 8;
/// The longest password in bytes, so that hashing it costs no more than argon2 itself.
pub(crate) const LONGEST_PASSWORD: usize = 1024;
/// The longest name of a user in bytes.
pub(crate) const LONGEST_NAME: usize = 64;

/// The users and the hashes of their passwords, in the PHC string format.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Users {
    users: BTreeMap<String, String>,
}

impl Users {
    /// Reads the file. Without a file there are no users.
    pub(crate) fn read(dir: &StateDir) -> Result<Self, Error> {
        let Some(bytes) = dir.root().read(FILE)? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::InvalidConfig(format!("{FILE} is damaged: {error}; remove it and set the passwords anew"))
        })
    }

    /// Creates a list of one user, for one run of `serve`.
    pub(crate) fn of_one(name: &str, hash: String) -> Self {
        Self { users: BTreeMap::from([(name.to_owned(), hash)]) }
    }

    /// Whether there are no users.
    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Returns the hash of this user's password. None: there is no such user. A hash that demands too much work is an error.
    pub(crate) fn hash_of(&self, name: &str) -> Result<Option<&str>, Error> {
        let Some(hash) = self.users.get(name) else { return Ok(None) };
        match Cost::of(hash) {
            Ok(_) => Ok(Some(hash)),
            Err(why) => Err(Error::InvalidConfig(format!(
                "{FILE}: the password hash of user {name:?} cannot be used: {why}; set the password anew with \
                 `ondat-telemetry password`"
            ))),
        }
    }

    /// Checks that all hashes can be used.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.users.keys().try_for_each(|name| self.hash_of(name).map(drop))
    }
}

/// The memory of a hash. RFC 9106's second recommendation is 64 MiB, which is too much here for two logins at once. These are the
/// first values of the OWASP Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
/// The most passes that a hash from elsewhere may demand. It may demand at most as much memory as ours.
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 16;

/// The memory for one check of a password. One is allocated at the start for each concurrent check: memory that was allocated for
/// each check would come back to the allocator in pieces and stay there.
pub(crate) struct Memory(Vec<Block>);

impl Memory {
    /// Allocates and touches the memory, so that a shortage shows now and not at the first login.
    pub(crate) fn new() -> Result<Self, Error> {
        let mut blocks = Vec::new();
        let size = MEMORY_KIB as usize;
        blocks.try_reserve_exact(size).map_err(|_| {
            Error::Internal(format!("there is not enough memory to check a password, which takes {MEMORY_KIB} KiB"))
        })?;
        blocks.resize(size, Block::new());
        Ok(Self(blocks))
    }

    /// Hashes a password with a new salt.
    pub(crate) fn hash(&mut self, password: &str) -> Result<String, Error> {
        let failed = |why: &str| Error::Internal(format!("hashing a password: {why}"));
        let salt = Salt::new(&random::<16>()?).map_err(|_| failed("no salt"))?;
        let params = Params::new(MEMORY_KIB, PASSES, 1, Some(Params::DEFAULT_OUTPUT_LEN));
        let params = params.map_err(|_| failed("no parameters"))?;
        let cost = Cost { algorithm: Algorithm::Argon2id, version: Version::V0x13, params };
        let hash = self.derive(password, &salt, &cost).ok_or_else(|| failed("it cannot be derived"))?;
        let params = ParamsString::try_from(&cost.params).map_err(|_| failed("no parameters"))?;
        let (algorithm, version) = (cost.algorithm.ident(), Some(cost.version.into()));
        Ok(PasswordHash { algorithm, version, params, salt: Some(salt), hash: Some(hash) }.to_string())
    }

    /// Whether a password matches a hash. It takes as long for [`nobodys_hash`] as for a user's.
    pub(crate) fn is_password(&mut self, password: &str, hash: &str) -> bool {
        let Ok((cost, salt, expected)) = Cost::of(hash) else { return false };
        // The comparison takes constant time.
        self.derive(password, &salt, &cost).is_some_and(|derived| derived == expected)
    }

    fn derive(&mut self, password: &str, salt: &Salt, cost: &Cost) -> Option<Derived> {
        let argon2 = Argon2::new(cost.algorithm, cost.version, cost.params.clone());
        let length = cost.params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let mut bytes = [0; Derived::MAX_LENGTH];
        let out = bytes.get_mut(..length)?;
        let derived = argon2.hash_password_into_with_memory(password.as_bytes(), salt, out, &mut self.0);
        // The memory is cleared: guesses could be compared with its content faster than with the hash.
        self.0.fill(Block::new());
        derived.ok().and_then(|()| Derived::new(out).ok())
    }
}

/// The work that a hash in the PHC string format demands.
struct Cost {
    algorithm: Algorithm,
    version: Version,
    params: Params,
}

impl Cost {
    /// Parses a hash into its cost, its salt and the derived key. The error says why it is not accepted.
    fn of(hash: &str) -> Result<(Self, Salt, Derived), String> {
        let parsed = PasswordHash::new(hash).map_err(|_| "it is no hash in the PHC string format")?;
        let algorithm = Algorithm::try_from(parsed.algorithm.as_str()).map_err(|_| "it is not one of argon2")?;
        let version = parsed.version.map_or(Ok(Version::V0x13), Version::try_from);
        let version = version.map_err(|_| "it is of an unknown version of argon2")?;
        let params = Params::try_from(&parsed).map_err(|_| "its parameters are not those of argon2")?;
        for (name, asked, most) in [
            ("m", params.m_cost(), MEMORY_KIB),
            ("t", params.t_cost(), MOST_PASSES),
            ("p", params.p_cost(), MOST_LANES),
        ] {
            if asked > most {
                return Err(format!("it asks for {name}={asked}, and at most {name}={most} is done"));
            }
        }
        let (salt, derived) = parsed.salt.zip(parsed.hash).ok_or("it has no salt or no hash")?;
        Ok((Self { algorithm, version, params }, salt, derived))
    }
}

/// Returns a hash to check for users that do not exist. No password matches it, and the check takes as long as for a user.
pub(crate) fn nobodys_hash() -> Result<String, Error> {
    let [salt, hash] = [BASE64_NOPAD.encode(&random::<16>()?), BASE64_NOPAD.encode(&random::<32>()?)];
    Ok(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1${salt}${hash}"))
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::Internal(format!("no randomness for a password: {error}")))?;
    Ok(bytes)
}

/// The command `password`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The user
    #[arg(default_value = DEFAULT_USER)]
    user: String,
    /// Take the user away: all of the user's sessions end
    #[arg(long, conflicts_with = "file")]
    remove: bool,
    /// Read the password from the first line of this file, such as one of a Kubernetes Secret
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Sets or removes a user's password.
pub(crate) fn run(arguments: &Arguments, options: &Options) -> Result<Output, Error> {
    let dir = &options.state_dir("users are kept in the state directory")?;
    let user = &arguments.user;
    if user.is_empty() || user.len() > LONGEST_NAME || user.chars().any(char::is_control) {
        return Err(Error::InvalidArgument(format!("a user's name has 1 to {LONGEST_NAME} plain bytes")));
    }
    let new = if arguments.remove {
        None
    } else {
        Some(Memory::new()?.hash(&read_password(user, arguments.file.as_deref())?)?)
    };
    let (action, said) =
        if new.is_some() { ("password", "the password is set") } else { ("password removed", "the user is removed") };
    administration::write(dir, &Actor::command(), FILE, || {
        let mut users = Users::read(dir)?;
        match new {
            Some(hash) => drop(users.users.insert(user.clone(), hash)),
            None if users.users.remove(user).is_none() => {
                return Err(Error::InvalidArgument(format!("there is no user {user:?} in {FILE}")));
            }
            None => {}
        }
        let bytes = serde_json::to_vec(&users).map_err(|error| Error::Internal(format!("{FILE}: {error}")))?;
        Ok((json!({ "action": action, "of": user }), bytes))
    })?;
    Ok(Output::text(format!("{said}\n")))
}

/// Reads a password: the file's first line, or twice from the terminal without echo, or else the first line of standard input.
fn read_password(user: &str, file: Option<&Path>) -> Result<String, Error> {
    let failed = |error: std::io::Error| Error::InvalidArgument(format!("reading the password: {error}"));
    let password = if let Some(path) = file {
        let failed = |error: std::io::Error| Error::InvalidArgument(format!("{}: {error}", path.display()));
        first_line(File::open(path).map_err(failed)?).map_err(failed)?
    } else if std::io::stdin().is_terminal() {
        let password = rpassword::prompt_password(format!("New password of {user}: ")).map_err(failed)?;
        if rpassword::prompt_password("The same again: ").map_err(failed)? != password {
            return Err(Error::InvalidArgument("the two passwords differ; nothing was changed".to_owned()));
        }
        password
    } else {
        first_line(std::io::stdin().lock()).map_err(failed)?
    };
    if password.chars().count() < SHORTEST_PASSWORD || password.len() > LONGEST_PASSWORD {
        return Err(Error::InvalidArgument(format!(
            "a password has at least {SHORTEST_PASSWORD} characters and at most {LONGEST_PASSWORD} bytes; nothing was changed"
        )));
    }
    Ok(password)
}

/// As far as a password can be long, and a little more, so that a longer one is seen to be.
fn first_line(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(LONGEST_PASSWORD as u64 + 2).read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash_alone() {
        let mut memory = Memory::new().unwrap();
        let first = memory.hash("correct horse").unwrap();
        assert!(first.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{first}");
        assert_ne!(first, memory.hash("correct horse").unwrap());
        assert!(memory.is_password("correct horse", &first));
        assert!(!memory.is_password("correct house", &first));
        assert!(!memory.is_password("correct horse", "plain"));
        assert!(!memory.is_password("nobody's password", &nobodys_hash().unwrap()));
        assert!(Cost::of(&nobodys_hash().unwrap()).is_ok());
    }

    #[test]
    fn nothing_of_a_password_stays() {
        let mut memory = Memory::new().unwrap();
        let before = memory.0.as_ptr();
        memory.hash("correct horse").unwrap();
        assert!(memory.0.iter().all(|block| block.as_ref().iter().all(|word| *word == 0)));
        assert_eq!(memory.0.as_ptr(), before, "the same memory");
    }

    /// Hashes by the reference implementation, `argon2` of Debian, of the password `correct horse` with the salt `somesalt`.
    const ELSEWHERE: [&str; 4] = [
        "$argon2id$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$wGv2pDl1z8N+TQOF7O+XVqmPdEGsCI9zk9bP3Uu63iI",
        "$argon2i$v=16$m=64,t=2,p=2$c29tZXNhbHQ$jNQyt3cAb68pcOuwFC4hF558m6/q7ILNTI0bLITQ8C8",
        "$argon2d$v=19$m=1024,t=1,p=4$c29tZXNhbHQ$+v+rbxAV9Cbx3R7vN6mZNYne6/AYyVaQ",
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$YcJRdAHXGYvVS9oxrmGE2PWNls1pxO2wCxHyCPxEXAY",
    ];

    #[test]
    fn hashes_made_elsewhere_are_taken_as_far_as_there_is_memory_and_time() {
        let mut memory = Memory::new().unwrap();
        for hash in ELSEWHERE {
            assert!(memory.is_password("correct horse", hash), "{hash}");
            assert!(!memory.is_password("correct house", hash), "{hash}");
        }
        let salt_and_hash = "c29tZXNhbHQ$wGv2pDl1z8N+TQOF7O+XVqmPdEGsCI9zk9bP3Uu63iI";
        for (params, why) in [
            ("argon2id$v=19$m=4194304,t=2,p=1", "it asks for m=4194304, and at most m=19456 is done"),
            ("argon2id$v=19$m=19457,t=2,p=1", "m=19457"),
            ("argon2id$v=19$m=4294967295,t=4294967295,p=16777215", "m=4294967295"),
            ("argon2id$v=19$m=19456,t=17,p=1", "at most t=16"),
            ("argon2id$v=19$m=1024,t=2,p=17", "at most p=16"),
            ("argon2id$v=19$m=99999999999,t=2,p=1", "parameters"),
            ("argon2id$v=19$m=7,t=2,p=1", "parameters"),
            ("argon2id$v=19$m=64,t=0,p=1", "parameters"),
            ("argon2id$v=18$m=64,t=2,p=1", "unknown version"),
            ("scrypt$ln=16,r=8,p=1", "not one of argon2"),
        ] {
            let refused = Cost::of(&format!("${params}${salt_and_hash}")).err().unwrap();
            assert!(refused.contains(why), "{params}: {refused}");
        }
        for hash in [
            "",
            "correct horse",
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            "$argon2id$v=19$m=64,t=2,p=1",
        ] {
            assert!(Cost::of(hash).is_err(), "{hash}");
        }
    }
}
