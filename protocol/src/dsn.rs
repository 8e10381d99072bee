//! Where crash reports go: a DSN, `https://KEY@HOST[:PORT][/PREFIX]/PROJECT`.

/// A DSN taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn {
    /// What stands before `://`.
    scheme: String,
    /// Host, port and path before the project.
    base: String,
    /// The public key.
    pub public_key: String,
    /// The project's id.
    pub project: String,
}

impl Dsn {
    /// Reads a DSN. The error does not repeat it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.trim().split_once("://").ok_or("expected https://KEY@HOST/PROJECT")?;
        let (key, rest) = rest.split_once('@').ok_or("it has no public key before the `@`")?;
        // An old form carries a secret after the key; servers no longer want it.
        let public_key = key.split(':').next().unwrap_or_default();
        if !is_word(public_key) {
            return Err("its public key is not letters and digits".to_owned());
        }
        let (base, project) = rest.trim_end_matches('/').rsplit_once('/').ok_or("it has no project id at the end")?;
        if !is_word(project) {
            return Err("its project id is not letters and digits".to_owned());
        }
        let [scheme, base, public_key, project] = [scheme, base, public_key, project].map(str::to_owned);
        Ok(Self { scheme, base, public_key, project })
    }

    /// Where envelopes are posted.
    pub fn envelope_url(&self) -> String {
        format!("{}://{}/api/{}/envelope/", self.scheme, self.base, self.project)
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_is_taken_apart() {
        for (text, url) in [
            ("https://abc@host/7", "https://host/api/7/envelope/"),
            (" https://abc:secret@127.0.0.1:8443/1/\n", "https://127.0.0.1:8443/api/1/envelope/"),
            ("https://abc@host/pre/fix/7", "https://host/pre/fix/api/7/envelope/"),
        ] {
            let dsn = Dsn::parse(text).unwrap();
            assert_eq!((dsn.public_key.as_str(), dsn.envelope_url().as_str()), ("abc", url));
        }
        for (text, why) in [
            ("abc", "expected https"),
            ("https://host/1", "no public key"),
            ("https://@host/1", "public key is not"),
            ("https://a c@host/1", "public key is not"),
            ("https://abc@host", "no project"),
            ("https://abc@host/a.b", "project id is not"),
        ] {
            assert!(Dsn::parse(text).unwrap_err().contains(why), "{text}");
        }
    }
}
