//! A certificate authority for one test, and a certificate of a discovery service.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Files in PEM.
#[derive(Debug)]
pub struct Certificate {
    /// What clients are to trust.
    pub authority: PathBuf,
    /// The service's certificate.
    pub certificate: PathBuf,
    /// The service's private key.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes a certificate for `host` (a name or an address) in `directory`.
    ///
    /// # Panics
    /// If the files cannot be written.
    #[must_use]
    pub fn new(directory: &Path, host: &str) -> Self {
        let new_key = || KeyPair::generate().expect("a key");
        let mut root = CertificateParams::new(Vec::new()).expect("no names");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(root, new_key()).expect("a root");
        let key = new_key();
        let leaf = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        let leaf = leaf.signed_by(&key, &root).expect("a certificate");
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        Self {
            authority: write("authority.pem", root.pem()),
            certificate: write("certificate.pem", leaf.pem()),
            key: write("key.pem", key.serialize_pem()),
        }
    }
}
