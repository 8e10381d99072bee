//! The exit statuses: scripts branch on them, so they are part of the interface.

use ondat_telemetry::version::verdict::Verdict;
pub(crate) use ondat_telemetry_command::exit::of_error;

/// The table at the end of `--help`.
pub(crate) const HELP: &str = "\
Exit status:
  0   it worked; check-version: the running version is current
  1   anything that is not listed here
  2   the command line, a setting, a file it names or the report document is invalid,
      or the call does not fit the moment (the report of this UTC day was already made)
  3   turned off: nothing was sent or stored
  4   network failure or timeout
  5   the version answer cannot be trusted
  6   the report is stored and will be delivered later
  7   the server refused for good
  8   the state directory cannot be read or written
  10  check-version: a newer version exists
  11  check-version: an upgrade is recommended
  12  check-version: an upgrade is required
  13  check-version: unknown, because a development build is running";

/// The exit status of `check-version`.
pub(crate) fn of_verdict(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Current => 0,
        Verdict::Outdated => 10,
        Verdict::UpgradeRecommended => 11,
        Verdict::UpgradeRequired => 12,
        Verdict::Unknown => 13,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondat_telemetry::error::Error;

    #[test]
    fn every_exit_status_stands_in_the_help() {
        let verdicts = [
            Verdict::Current,
            Verdict::Outdated,
            Verdict::UpgradeRecommended,
            Verdict::UpgradeRequired,
            Verdict::Unknown,
        ];
        let errors =
            [Error::Io, Error::InvalidConfig, Error::Disabled, Error::Network, Error::Untrusted, Error::Queued];
        let codes = verdicts.into_iter().map(of_verdict);
        let codes = codes.chain(errors.into_iter().map(|error| of_error(&error(String::new()))));
        for code in codes.chain([of_error(&Error::Refused(String::new())), of_error(&Error::Internal(String::new()))]) {
            assert!(HELP.lines().any(|line| line.trim_start().starts_with(&format!("{code} "))), "{code}");
        }
    }
}
