//! The service's certificate, read again when its files change.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;

/// The certificate chain and private key of a service, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The chain, the service's own certificate first.
    pub certificate: PathBuf,
    /// The private key of that certificate.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file is missing, not readable, or holds no PEM of the kind wanted.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// The chain's file holds no certificate.
    #[error("{} holds no certificate", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// The two do not belong together, or the key is of no kind TLS uses.
    #[error("{} and {} cannot be used together: {source}", certificate.display(), key.display())]
    Unusable {
        /// The chain's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// Serves the certificate that was read last.
pub(super) struct Certificate {
    files: ServerTls,
    current: RwLock<Current>,
}

struct Current {
    stamps: [Option<Stamp>; 2],
    key: Arc<CertifiedKey>,
}

type Stamp = (Option<SystemTime>, u64);

impl Certificate {
    pub(super) fn load(files: &ServerTls) -> Result<Self, CertificateError> {
        let current = Current { stamps: stamps(files), key: read(files)? };
        Ok(Certificate { files: files.clone(), current: RwLock::new(current) })
    }

    /// Reads the files again if they changed; whether they did. The old certificate stays if the new one
    /// cannot be used.
    pub(super) fn refresh(&self) -> Result<bool, CertificateError> {
        let stamps = stamps(&self.files);
        if self.read_current().stamps == stamps {
            return Ok(false);
        }
        // A file that is replaced by halves is told about once and read again when it changes once more.
        let key = read(&self.files);
        let mut current = self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        current.stamps = stamps;
        current.key = key?;
        Ok(true)
    }

    fn read_current(&self) -> std::sync::RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.read_current().key.clone())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.files).finish()
    }
}

/// TLS 1.2 or later, HTTP/2 only.
pub(super) fn config(certificate: Arc<Certificate>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(crate::service::provider())
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions")
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

fn read(files: &ServerTls) -> Result<Arc<CertifiedKey>, CertificateError> {
    let read_error = |path: &Path| {
        let path = path.to_owned();
        |source| CertificateError::Read { path, source }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(read_error(&files.certificate))?;
    if chain.is_empty() {
        return Err(CertificateError::Empty { path: files.certificate.clone() });
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(read_error(&files.key))?;
    match CertifiedKey::from_der(chain, key, &crate::service::provider()) {
        Ok(key) => Ok(Arc::new(key)),
        Err(source) => Err(CertificateError::Unusable {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        }),
    }
}

fn stamps(files: &ServerTls) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.modified().ok(), file.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let files = ServerTls {
            certificate: directory.path().join("cert.pem"),
            key: directory.path().join("key.pem"),
        };
        let issue = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            fs::write(&files.certificate, made.cert.pem()).unwrap();
            fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
            made.cert.der().to_vec()
        };
        let first = issue("first.example");
        let certificate = Certificate::load(&files).unwrap();
        let served = || certificate.read_current().key.cert[0].to_vec();
        assert_eq!(served(), first);
        assert!(!certificate.refresh().unwrap(), "nothing changed");
        let second = issue("the-second.example");
        assert!(certificate.refresh().unwrap());
        assert_eq!(served(), second);
        fs::write(&files.certificate, "half a certif").unwrap();
        assert!(certificate.refresh().is_err());
        assert!(!certificate.refresh().unwrap(), "told once");
        assert_eq!(served(), second);
        let third = issue("third.example");
        assert!(certificate.refresh().unwrap());
        assert_eq!(served(), third);
    }
}
