//! Secrets of access keys, sealed: the metadata store alone, or a backup of it, gives nobody a secret.
//!
//! AES-256-GCM under a key in a file of its own; each text is bound to the name of its access key.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use identity::sigv4::{hex, sha256};

const KEY_BYTES: usize = 32;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Seal {
    key: RandomizedNonceKey,
    /// Made of the key, and telling nothing of it: what salts of users that are not there are made of, the same at each gateway.
    pub salts: String,
}

impl Seal {
    /// From a file of 64 hexadecimal digits; it is made, for its owner alone, if it is not there and `may_make`.
    pub fn open(file: &Path, may_make: bool) -> Result<Self, String> {
        let place = file.display();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && may_make => {
                make(file).map_err(|error| format!("{place}: {error}"))?
            }
            Err(error) => return Err(format!("{place}: {error}")),
        };
        let text = text.trim();
        let digit = |at: usize| text.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        let key: Option<Vec<u8>> = (0..KEY_BYTES).map(|at| digit(2 * at)).collect();
        let key = key.filter(|_| text.len() == 2 * KEY_BYTES).ok_or_else(|| format!("{place} is no sealing key"))?;
        let salts = hex(&sha256(&[b"salts of users that are not there", &key[..]].concat()));
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| format!("{place} is no sealing key"))?;
        Ok(Self { key, salts })
    }

    pub fn seal(&self, name: &str, secret: &str) -> Option<String> {
        let mut text = secret.as_bytes().to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(name), &mut text).ok()?;
        Some(STANDARD.encode([&nonce.as_ref()[..], &text].concat()))
    }

    /// `None` for what was sealed for another name, with another key, or changed since.
    pub fn open_sealed(&self, name: &str, sealed: &str) -> Option<String> {
        let mut bytes = STANDARD.decode(sealed).ok().filter(|bytes| bytes.len() > NONCE_LEN)?;
        let mut text = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).ok()?;
        let opened = self.key.open_in_place(nonce, Aad::from(name), &mut text).ok()?;
        String::from_utf8(opened.to_vec()).ok()
    }
}

fn make(file: &Path) -> std::io::Result<String> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| std::io::Error::other(error.to_string()))?;
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = file.with_extension("part");
    let _ = std::fs::remove_file(&part);
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&part, file)?;
    std::fs::File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_and_under_its_name_alone() {
        let dir = std::env::temp_dir().join(format!("weir-seal-{:032x}", service::random::wide()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let file = dir.join("seal.key");
        assert!(Seal::open(&file, false).is_err(), "it is not made unless asked for");
        let seal = Seal::open(&file, true).expect("made");
        let sealed = seal.seal("AKID", "secret").expect("sealed");
        assert!(!sealed.contains("secret") && sealed != seal.seal("AKID", "secret").expect("sealed"));
        let again = Seal::open(&file, false).expect("it is there");
        assert_eq!(again.open_sealed("AKID", &sealed).as_deref(), Some("secret"));
        assert_eq!(again.open_sealed("OTHER", &sealed), None);
        let text = std::fs::read_to_string(&file).expect("a key");
        assert!(again.salts == seal.salts && again.salts.len() == 64 && again.salts != text.trim());
        let other = Seal::open(&dir.join("other.key"), true).expect("another");
        assert_eq!(other.open_sealed("AKID", &sealed), None);
        assert_ne!(other.salts, seal.salts);
        for damaged in [
            "",
            "AAAA",
            &sealed[4..],
            &sealed.replacen(&sealed[20..21], if &sealed[20..21] == "A" { "B" } else { "A" }, 1),
        ] {
            assert_eq!(again.open_sealed("AKID", damaged), None);
        }
        std::fs::write(&file, "nonsense").expect("written");
        assert!(Seal::open(&file, true).is_err(), "what is there is not replaced");
        let _ = std::fs::remove_dir_all(&dir);
    }
}
