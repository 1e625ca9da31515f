//! Reads `WWW-Authenticate`: RFC 9110, section 11.6.1, and the token protocol's parameters.
//!
//! Strict: a header that two readers could read differently is refused as a whole.

use std::collections::BTreeMap;

/// One challenge: a scheme and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme, in lower case.
    pub scheme: String,
    /// The parameters, their names in lower case.
    pub parameters: BTreeMap<String, String>,
}

/// Why a header is not a list of challenges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// Something else stands where this should.
    #[error("at byte {at} there should be {expected}")]
    Expected {
        /// Offset in the header.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// A quoted string does not end.
    #[error("the quoted text at byte {0} has no end")]
    Unterminated(usize),
    /// A parameter stands twice in one challenge.
    #[error("the parameter `{0}` stands twice")]
    Twice(String),
    /// More than any registry sends.
    #[error("it is longer than {LENGTH_LIMIT} bytes")]
    TooLong,
}

/// Longest header that is read.
const LENGTH_LIMIT: usize = 16 * 1024;

impl Challenge {
    /// Reads all challenges of one header.
    pub fn parse(header: &str) -> Result<Vec<Challenge>, ChallengeError> {
        if header.len() > LENGTH_LIMIT {
            return Err(ChallengeError::TooLong);
        }
        Reader { text: header.as_bytes(), at: 0 }.challenges()
    }

    /// A parameter, if it is there and not empty.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn challenges(mut self) -> Result<Vec<Challenge>, ChallengeError> {
        let mut challenges: Vec<Challenge> = Vec::new();
        loop {
            // Empty elements of a list are passed over: section 5.6.1.
            while matches!(self.peek(), Some(b' ' | b'\t' | b',')) {
                self.at += 1;
            }
            if self.peek().is_none() {
                return Ok(challenges);
            }
            let word = self.token("a scheme or a parameter")?;
            let after_word = self.at;
            self.spaces();
            match (self.peek(), challenges.last_mut()) {
                // `name = value` goes on with the challenge before it.
                (Some(b'='), Some(challenge)) => self.parameter(challenge, word)?,
                (None | Some(b','), _) => challenges.push(Challenge { scheme: word, parameters: BTreeMap::new() }),
                (Some(_), _) if self.at > after_word => {
                    let mut challenge = Challenge { scheme: word, parameters: BTreeMap::new() };
                    if !self.token68() {
                        let name = self.token("a parameter")?;
                        self.spaces();
                        self.parameter(&mut challenge, name)?;
                    }
                    challenges.push(challenge);
                }
                _ => return Err(ChallengeError::Expected { at: self.at, expected: "a space after the scheme" }),
            }
        }
    }

    /// `= value`, after the name.
    fn parameter(&mut self, challenge: &mut Challenge, name: String) -> Result<(), ChallengeError> {
        if self.peek() != Some(b'=') {
            return Err(ChallengeError::Expected { at: self.at, expected: "an equals sign" });
        }
        self.at += 1;
        let value = self.value()?;
        if challenge.parameters.insert(name.clone(), value).is_some() {
            return Err(ChallengeError::Twice(name));
        }
        self.spaces();
        match self.peek() {
            None | Some(b',') => Ok(()),
            Some(_) => Err(ChallengeError::Expected { at: self.at, expected: "a comma" }),
        }
    }

    /// `Negotiate abc==`: what is no parameter after a scheme belongs to schemes that are not spoken here.
    fn token68(&mut self) -> bool {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)) {
            self.at += 1;
        }
        while self.at > start && self.peek() == Some(b'=') {
            self.at += 1;
        }
        let found = self.at > start;
        self.spaces();
        let found = found && matches!(self.peek(), None | Some(b','));
        if !found {
            self.at = start;
        }
        found
    }

    fn value(&mut self) -> Result<String, ChallengeError> {
        self.spaces();
        if self.peek() != Some(b'"') {
            let start = self.at;
            self.token("a value")?;
            return Ok(String::from_utf8_lossy(&self.text[start..self.at]).into_owned());
        }
        let start = self.at;
        self.at += 1;
        let mut value = Vec::new();
        loop {
            match self.peek() {
                None => return Err(ChallengeError::Unterminated(start)),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(String::from_utf8_lossy(&value).into_owned());
                }
                Some(b'\\') => {
                    self.at += 1;
                    value.push(self.peek().ok_or(ChallengeError::Unterminated(start))?);
                }
                Some(byte) if byte < b' ' && byte != b'\t' => {
                    return Err(ChallengeError::Expected { at: self.at, expected: "a printable character" });
                }
                Some(byte) => value.push(byte),
            }
            self.at += 1;
        }
    }

    /// A token, in lower case.
    fn token(&mut self, expected: &'static str) -> Result<String, ChallengeError> {
        let start = self.at;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        while self.peek().is_some_and(is_token) {
            self.at += 1;
        }
        match &self.text[start..self.at] {
            [] => Err(ChallengeError::Expected { at: start, expected }),
            token => Ok(String::from_utf8_lossy(token).to_ascii_lowercase()),
        }
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(header: &str) -> Vec<(String, Vec<(String, String)>)> {
        let challenges = Challenge::parse(header).unwrap();
        challenges.into_iter().map(|challenge| (challenge.scheme, challenge.parameters.into_iter().collect())).collect()
    }

    fn expected(challenges: &[(&str, &[(&str, &str)])]) -> Vec<(String, Vec<(String, String)>)> {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        challenges.iter().map(|(scheme, pairs)| ((*scheme).to_owned(), owned(pairs))).collect()
    }

    #[test]
    fn reads_what_registries_send() {
        let bearer = [("realm", "https://a.example/token"), ("scope", "repository:a/b:pull,push"), ("service", "a b")];
        for header in [
            r#"Bearer realm="https://a.example/token",service="a b",scope="repository:a/b:pull,push""#,
            r#"bearer  realm = "https://a.example/token" , service="a b",, scope="repository:a/b:pull,push","#,
            r#"BEARER Realm="https:\/\/a.example/token",SERVICE="a\ b",scope="repository:a/b:pull,push""#,
        ] {
            assert_eq!(read(header), expected(&[("bearer", &bearer)]), "{header}");
        }
        let two = r#"Basic realm="a, Bearer realm=\"x\"", Bearer realm=tok, error=invalid_token"#;
        let basic: &[(&str, &str)] = &[("realm", "a, Bearer realm=\"x\"")];
        assert_eq!(
            read(two),
            expected(&[("basic", basic), ("bearer", &[("error", "invalid_token"), ("realm", "tok")])])
        );
        assert_eq!(read("Negotiate"), expected(&[("negotiate", &[])]));
        assert_eq!(read("Negotiate YWJj==, Basic"), expected(&[("negotiate", &[]), ("basic", &[])]));
        assert_eq!(read(", ,"), expected(&[]));
    }

    #[test]
    fn refuses_what_can_be_read_in_two_ways() {
        for header in [
            r#"Bearer realm="a",realm="b""#,
            r#"Bearer realm="a"#,
            r#"Bearer realm="a\"#,
            r#"Bearer realm="a" service="b""#,
            r#"Bearer realm="a"b"#,
            "Bearer realm=,x=",
            "Bearer a b",
            "=x",
            "\"Bearer\" realm=x",
            "Bearer realm=\"a\u{1}\"",
            "Bearer@ realm=x",
        ] {
            assert!(Challenge::parse(header).is_err(), "{header}");
        }
        assert_eq!(Challenge::parse(&"x".repeat(20_000)), Err(ChallengeError::TooLong));
    }

    #[test]
    fn never_panics_and_never_loops() {
        // Every string of up to five of the characters that matter.
        let letters = ["a", " ", ",", "=", "\"", "\\", "é"];
        let mut texts = vec![String::new()];
        for _ in 0..5 {
            let longer: Vec<String> =
                texts.iter().flat_map(|text| letters.map(|letter| format!("{text}{letter}"))).collect();
            longer.iter().for_each(|text| drop(Challenge::parse(text)));
            texts = longer;
        }
    }
}
