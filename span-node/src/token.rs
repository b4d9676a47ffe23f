//! The token of `span cluster new`: all a machine needs to join, in one word to copy.
//!
//! `span1.` and base64url without padding of: the length of everything in 2 bytes, the secret in 32, the
//! id, the number of discovery services in 1 byte, their addresses, and the first 4 bytes of the SHA-256
//! of `span1.` and all before. Texts come after their length in 2 bytes; numbers are big-endian. The
//! length and the checksum tell a token that was cut short from one that was mistyped.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use span_discovery::seal::{ClusterId, ClusterSecret};
use span_discovery::url::ServiceUrl;
use zeroize::Zeroizing;

const PREFIX: &str = "span1.";
const LENGTH: usize = 2;
const SECRET: usize = 32;
const CHECKSUM: usize = 4;

/// A cluster's id and secret, and where its members find each other. Whoever has it can join.
#[derive(Clone)]
pub struct Token {
    id: ClusterId,
    secret: ClusterSecret,
    services: Vec<ServiceUrl>,
}

/// Why discovery services do not go into a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token holds at most {max} discovery services; give the others in the nodes' configuration", max = Token::MAX_SERVICES)]
pub struct TooManyServices;

/// Why a text is no [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Something else.
    #[error("this is no token: a token begins with `span1.`; `span cluster new` makes one")]
    Prefix,
    /// From a later version.
    #[error("this token is of a kind this version of Span does not know: update Span")]
    Version,
    /// The end is missing.
    #[error("the token is cut short: {have} characters of {want}; copy all of it")]
    Short {
        /// Characters there are.
        have: usize,
        /// Characters there should be.
        want: usize,
    },
    /// Something follows.
    #[error("the token has {excess} characters too many; copy nothing but the token")]
    Long {
        /// Characters too many.
        excess: usize,
    },
    /// A character tokens do not have.
    #[error("the token has a character at place {at} that no token has; copy it again")]
    Character {
        /// Counted from 1.
        at: usize,
    },
    /// The checksum is another.
    #[error("the token is mistyped or damaged; copy it again")]
    Checksum,
    /// Right by its checksum, but not made as this version makes them.
    #[error("the token makes no sense although it is complete; make a new one with `span cluster new`")]
    Content,
}

impl Token {
    /// Most discovery services a token holds.
    pub const MAX_SERVICES: usize = 16;

    /// The token of an existing cluster.
    pub fn new(
        id: ClusterId,
        secret: ClusterSecret,
        services: Vec<ServiceUrl>,
    ) -> Result<Self, TooManyServices> {
        if services.len() > Self::MAX_SERVICES {
            return Err(TooManyServices);
        }
        Ok(Token { id, secret, services })
    }

    /// The token of a new cluster, made of the caller's randomness.
    pub fn generate(random: &[u8; 64], services: Vec<ServiceUrl>) -> Result<Self, TooManyServices> {
        let (mut id, mut secret) = ([0; 32], Zeroizing::new([0; 32]));
        id.copy_from_slice(&random[..32]);
        secret.copy_from_slice(&random[32..]);
        Token::new(ClusterId::generate(id), ClusterSecret::from_bytes(*secret), services)
    }

    /// The cluster's id.
    pub fn id(&self) -> &ClusterId {
        &self.id
    }

    /// The cluster's secret.
    pub fn secret(&self) -> &ClusterSecret {
        &self.secret
    }

    /// Where its members find each other.
    pub fn services(&self) -> &[ServiceUrl] {
        &self.services
    }

    /// The token as text. Secret: for the user's eyes, never for a log.
    pub fn encode(&self) -> Zeroizing<String> {
        let services: Vec<String> = self.services.iter().map(ServiceUrl::to_string).collect();
        let texts: usize = services.iter().map(|url| LENGTH + url.len()).sum();
        let total = LENGTH + SECRET + LENGTH + self.id.as_str().len() + 1 + texts + CHECKSUM;
        // Room for everything at once: growing would leave copies of the secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(total));
        bytes.extend(length(total));
        bytes.extend(self.secret.as_bytes());
        push_text(&mut bytes, self.id.as_str());
        bytes.push(services.len() as u8);
        for url in &services {
            push_text(&mut bytes, url);
        }
        let checksum = checksum(&bytes);
        bytes.extend(checksum);
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + characters(total) + 3));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&*bytes, &mut text);
        text
    }
}

impl FromStr for Token {
    type Err = TokenError;

    /// Spaces and line breaks, which copying brings along, are skipped.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut text = Zeroizing::new(text.to_owned());
        text.retain(|character| !character.is_ascii_whitespace());
        let body = match text.strip_prefix(PREFIX) {
            Some(body) => body,
            None if is_other_version(&text) => return Err(TokenError::Version),
            None => return Err(TokenError::Prefix),
        };
        let foreign = |byte: u8| !(byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if let Some(at) = body.bytes().position(foreign) {
            return Err(TokenError::Character { at: PREFIX.len() + at + 1 });
        }
        let want = characters(announced_length(body));
        if body.len() < want {
            return Err(TokenError::Short { have: text.len(), want: PREFIX.len() + want });
        }
        if body.len() > want {
            return Err(TokenError::Long { excess: body.len() - want });
        }
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenError::Checksum)?;
        let bytes = Zeroizing::new(bytes);
        let (content, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(TokenError::Checksum)?;
        if checksum(content) != *sum {
            return Err(TokenError::Checksum);
        }
        read(content).ok_or(TokenError::Content)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// `span` and a number, up to the dot.
fn is_other_version(text: &str) -> bool {
    let version = text.strip_prefix("span").and_then(|rest| rest.split_once('.'));
    version.is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// How many bytes the token says it has; that of the shortest where it does not come to say it.
fn announced_length(body: &str) -> usize {
    const SHORTEST: usize = LENGTH + SECRET + LENGTH + 1 + 1 + CHECKSUM;
    let mut head = [0; 3];
    match body.get(..4).map(|start| URL_SAFE_NO_PAD.decode_slice(start, &mut head)) {
        Some(Ok(_)) => usize::from(u16::from_be_bytes([head[0], head[1]])),
        Some(Err(_)) | None => SHORTEST,
    }
}

/// The content, whose checksum is right and gone.
fn read(content: &[u8]) -> Option<Token> {
    let (_, rest) = content.split_at_checked(LENGTH)?;
    let (secret, mut rest) = rest.split_first_chunk::<SECRET>()?;
    let secret = ClusterSecret::from_bytes(*secret);
    let id = take_text(&mut rest)?.parse().ok()?;
    let (count, mut rest) = rest.split_first()?;
    let services = (0..*count).map(|_| take_text(&mut rest)?.parse().ok()).collect::<Option<Vec<_>>>()?;
    if rest.is_empty() { Token::new(id, secret, services).ok() } else { None }
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let (len, rest) = bytes.split_first_chunk::<LENGTH>()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(length(text.len()));
    bytes.extend(text.bytes());
}

/// Ids, addresses and their number are bounded, so that every length fits.
fn length(len: usize) -> [u8; LENGTH] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

/// How many characters of base64 that many bytes are.
fn characters(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM] {
    let hash = Sha256::new().chain_update(PREFIX).chain_update(content).finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> Token {
        let services =
            vec!["https://discovery.example".parse().unwrap(), "http://[2001:db8::1]:3000".parse().unwrap()];
        Token::generate(&std::array::from_fn(|i| i as u8), services).unwrap()
    }

    fn error(text: &str) -> TokenError {
        text.parse::<Token>().unwrap_err()
    }

    fn assert_same(a: &Token, b: &Token) {
        assert_eq!(
            (a.id(), a.secret().as_bytes(), a.services()),
            (b.id(), b.secret().as_bytes(), b.services())
        );
    }

    /// The format is a promise: tokens lie in drawers.
    #[test]
    fn the_format_stays() {
        let token = Token::generate(&[7; 64], vec![]).unwrap();
        assert_eq!(
            *token.encode(),
            "span1.AFUHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwAsQndjSEJ3Y0hCd2NIQndjSEJ3Y0hCd2NIQndjSEJ3Y0\
             hCd2NIQndjSEJ3Yz0ALUXtCw"
        );
    }

    #[test]
    fn tokens_round_trip() {
        assert_same(&token(), &token().encode().parse().unwrap());
        let id: ClusterId = "\u{e9}".repeat(128).parse().unwrap();
        let host = format!("https://{}:65535", "a".repeat(253));
        let services = vec![host.parse().unwrap(); Token::MAX_SERVICES];
        let largest = Token::new(id, ClusterSecret::from_bytes([0xff; 32]), services).unwrap();
        assert_same(&largest, &largest.encode().parse().unwrap());
        let more = vec![host.parse().unwrap(); Token::MAX_SERVICES + 1];
        assert_eq!(Token::generate(&[0; 64], more).unwrap_err(), TooManyServices);
    }

    #[test]
    fn line_breaks_of_copying_do_not_matter() {
        let text = token().encode();
        let (a, b) = text.split_at(50);
        assert_same(&token(), &format!("  {a}\r\n\t{b}\n").parse().unwrap());
    }

    #[test]
    fn a_token_that_was_cut_short_is_told() {
        let text = token().encode();
        for have in PREFIX.len() + 4..text.len() {
            assert_eq!(error(&text[..have]), TokenError::Short { have, want: text.len() });
        }
        assert!(matches!(error("span1."), TokenError::Short { .. }));
        assert!(matches!(error("span1.AF"), TokenError::Short { .. }));
        assert_eq!(error(&format!("{}x", *text)), TokenError::Long { excess: 1 });
    }

    #[test]
    fn other_texts_are_told() {
        for text in [
            "",
            "span",
            "span1",
            "hello",
            "spanX.abc",
            "span.abc",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        ] {
            assert_eq!(error(text), TokenError::Prefix, "{text}");
        }
        assert_eq!(error("span2.abc"), TokenError::Version);
        let text = token().encode();
        assert_eq!(error(&text.replacen('A', "+", 1)), TokenError::Character { at: 7 });
        assert_eq!(error("span1.AFUH\u{e9}"), TokenError::Character { at: 11 });
    }

    #[test]
    fn every_mistyped_character_is_told() {
        let text = token().encode();
        for at in PREFIX.len()..text.len() {
            let other = if text.as_bytes()[at] == b'x' { "y" } else { "x" };
            let mut wrong = text.to_string();
            wrong.replace_range(at..=at, other);
            assert!(wrong.parse::<Token>().is_err(), "place {at}");
        }
    }

    /// A right checksum over nonsense, which only a program gone wrong makes.
    #[test]
    fn nonsense_with_a_right_checksum_is_told() {
        for middle in
            [&[][..], &[0; 32], &[0; 33], &[0; 40], &[[1; 32].as_slice(), &[0, 1, b'x', 1]].concat()]
        {
            let mut bytes = length(LENGTH + middle.len() + CHECKSUM).to_vec();
            bytes.extend(middle);
            let sum = checksum(&bytes);
            bytes.extend(sum);
            let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes));
            assert_eq!(error(&text), TokenError::Content, "{middle:?}");
        }
    }

    #[test]
    fn tokens_stay_out_of_logs() {
        assert_eq!(format!("{:?}", token()), "Token(..)");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text: String) {
            let _ = text.parse::<Token>();
            let _ = format!("{PREFIX}{text}").parse::<Token>();
        }

        #[test]
        fn any_base64_is_parsed_or_refused(body in "[A-Za-z0-9_-]{0,200}") {
            let _ = format!("{PREFIX}{body}").parse::<Token>();
        }
    }
}
