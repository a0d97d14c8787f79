//! The certificate authority of one sandbox: signs certificates for the vendors' host names.
//! Its key lives in memory only and dies with the sandbox.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::dataplane::PlaneError;

/// How many names the front keeps certificates for; clients choose the names they ask for.
const MAX_CACHED: usize = 1024;

/// Signs for every name it is asked for.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    leaves: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

/// A certificate chain and its key, as PEM, for a server that reads files.
pub(crate) struct PemPair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    pub(crate) fn new() -> Result<Self, PlaneError> {
        let key = KeyPair::generate().map_err(signing)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "sandbox root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let pem = params.self_signed(&key).map_err(signing)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem, leaves: Mutex::default() })
    }

    /// The root certificate, for clients to trust.
    pub(crate) fn root_pem(&self) -> &str {
        &self.pem
    }

    /// One certificate for all of `hosts`.
    pub(crate) fn sign(&self, hosts: &[String]) -> Result<PemPair, PlaneError> {
        let key = KeyPair::generate().map_err(signing)?;
        let certificate = leaf(hosts)?.signed_by(&key, &self.issuer).map_err(signing)?;
        Ok(PemPair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    fn leaf_for(&self, host: &str) -> Result<Arc<CertifiedKey>, PlaneError> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = leaves.get(host) {
            return Ok(known.clone());
        }
        let key = KeyPair::generate().map_err(signing)?;
        let certificate = leaf(&[host.to_owned()])?.signed_by(&key, &self.issuer).map_err(signing)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = aws_lc_rs::sign::any_supported_type(&der).map_err(|e| PlaneError::Failed(e.to_string()))?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer));
        if leaves.len() < MAX_CACHED {
            leaves.insert(host.to_owned(), certified.clone());
        }
        Ok(certified)
    }
}

fn leaf(hosts: &[String]) -> Result<CertificateParams, PlaneError> {
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(signing)?;
    // RFC 5280 leaves 64 characters for a common name and ElastiCache names can be longer: clients read the SANs.
    params.distinguished_name.push(DnType::CommonName, "sandbox");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn signing(error: rcgen::Error) -> PlaneError {
    PlaneError::Failed(format!("a certificate could not be signed: {error}"))
}

/// TLS for the front: any name a client asks for gets a certificate, as under a vendor's wildcard; whether the
/// name is served is decided by the Host header.
pub(crate) fn server_config(authority: Arc<Authority>) -> Result<Arc<ServerConfig>, PlaneError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| PlaneError::Failed(e.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(authority)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct ByName(Arc<Authority>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.leaf_for(hello.server_name()?).ok()
    }
}
