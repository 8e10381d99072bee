//! Who may change the settings through the API: `users.json`, passwords hashed with argon2. And `password`, which writes it.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use clap::Args;
use ondat_telemetry::error::Error;
use ondat_telemetry::state::{StateDir, layout};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Output;
use crate::administration::{self, Actor};
use crate::settings::Options;

/// Where they are kept.
pub(crate) const FILE: &str = layout::USERS;
/// The user where none is named.
pub(crate) const DEFAULT_USER: &str = "admin";
/// NIST SP 800-63B-4, 3.1.1.2: a password that stands alone has at least 15 characters where that can be asked; 8 is the
/// least it allows at all.
const SHORTEST_PASSWORD: usize = 8;
/// So that hashing it costs no more than argon2 itself.
pub(crate) const LONGEST_PASSWORD: usize = 1024;
/// The longest name of a user in bytes.
pub(crate) const LONGEST_NAME: usize = 64;

/// The users and the hashes of their passwords, in the PHC string format.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Users {
    users: BTreeMap<String, String>,
}

impl Users {
    /// Reads the file; no file is nobody.
    pub(crate) fn read(dir: &StateDir) -> Result<Self, Error> {
        let Some(bytes) = dir.root().read(FILE)? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::InvalidConfig(format!("{FILE} is damaged: {error}; remove it and set the passwords anew"))
        })
    }

    /// One user for one run.
    pub(crate) fn of_one(name: &str, hash: String) -> Self {
        Self { users: BTreeMap::from([(name.to_owned(), hash)]) }
    }

    /// Whether nobody can log in.
    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The hash of this user's password.
    pub(crate) fn hash_of(&self, name: &str) -> Option<&str> {
        self.users.get(name).map(String::as_str)
    }
}

/// RFC 9106's second recommendation asks for 64 MiB, which two logins at once are not worth here; these are the OWASP Password
/// Storage Cheat Sheet's first: 19 MiB, two passes, one lane.
fn argon2() -> Argon2<'static> {
    let params = Params::new(19_456, 2, 1, None).unwrap_or(Params::DEFAULT);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// A new hash of a password, with a salt of its own.
pub(crate) fn hash(password: &str) -> Result<String, Error> {
    let hash = argon2().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| Error::Internal(format!("hashing a password: {error}")))
}

/// Whether the password is the hashed one; takes as long for a hash that is none of ours as for one that is.
pub(crate) fn is_password(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok())
}

/// The command `password`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The user
    #[arg(default_value = DEFAULT_USER)]
    user: String,
    /// Take the user away: all of the user's sessions end
    #[arg(long)]
    remove: bool,
}

/// Sets or removes a user's password.
pub(crate) fn run(arguments: &Arguments, options: &Options) -> Result<Output, Error> {
    let dir = &options.state_dir("users are kept in the state directory")?;
    let user = &arguments.user;
    if user.is_empty() || user.len() > LONGEST_NAME || user.chars().any(char::is_control) {
        return Err(Error::InvalidArgument(format!("a user's name has 1 to {LONGEST_NAME} plain bytes")));
    }
    let new = if arguments.remove { None } else { Some(hash(&read_password(user)?)?) };
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

/// From the terminal without showing it, twice; else the standard input's first line.
fn read_password(user: &str) -> Result<String, Error> {
    let failed = |error: std::io::Error| Error::InvalidArgument(format!("reading the password: {error}"));
    let password = if std::io::stdin().is_terminal() {
        let password = rpassword::prompt_password(format!("New password of {user}: ")).map_err(failed)?;
        if rpassword::prompt_password("The same again: ").map_err(failed)? != password {
            return Err(Error::InvalidArgument("the two passwords differ; nothing was changed".to_owned()));
        }
        password
    } else {
        let mut text = String::new();
        std::io::stdin().lock().take(LONGEST_PASSWORD as u64 + 2).read_to_string(&mut text).map_err(failed)?;
        text.lines().next().unwrap_or_default().to_owned()
    };
    if password.chars().count() < SHORTEST_PASSWORD || password.len() > LONGEST_PASSWORD {
        return Err(Error::InvalidArgument(format!(
            "a password has at least {SHORTEST_PASSWORD} characters and at most {LONGEST_PASSWORD} bytes; nothing was changed"
        )));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash_alone() {
        let first = hash("correct horse").unwrap();
        assert!(first.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{first}");
        assert_ne!(first, hash("correct horse").unwrap());
        assert!(is_password("correct horse", &first));
        assert!(!is_password("correct house", &first));
        assert!(!is_password("correct horse", "plain"));
    }
}
