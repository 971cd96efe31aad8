//! What went wrong, in nats-server's words, because tools look for them.

use std::fmt::Write;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use crate::certificate::Certificate;
use crate::record::Failure;

/// One line: what went wrong, and whose certificate it was.
pub fn describe(failure: &Failure) -> String {
    let mut text = match &failure.error {
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        Error::InvalidCertificate(error) => {
            format!("tls: failed to verify certificate: x509: {}", certificate(error))
        }
        Error::AlertReceived(alert) => format!("remote error: tls: {}", self::alert(*alert)),
        Error::PeerIncompatible(incompatible) => match incompatible {
            PeerIncompatible::NoCipherSuitesInCommon => {
                "tls: no cipher suite supported by both client and server".to_owned()
            }
            PeerIncompatible::NoKxGroupsInCommon => {
                "tls: no key exchanges supported by both client and server".to_owned()
            }
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled => {
                "tls: client offered only unsupported versions".to_owned()
            }
            other => format!("tls: the client can't do what is needed: {other:?}"),
        },
        other => format!("tls: {other}"),
    };
    for (n, der) in failure.refused.iter().enumerate() {
        text.push_str(if n == 0 { " (" } else { "; " });
        match Certificate::read(der) {
            Ok(certificate) => {
                let shown = certificate.shown();
                let _ = write!(text, "{} SHA-256: ", shown.subject);
                for byte in shown.sha256 {
                    let _ = write!(text, "{byte:02x}");
                }
            }
            Err(error) => {
                let _ = write!(text, "{error}");
            }
        }
    }
    if !failure.refused.is_empty() {
        text.push(')');
    }
    text
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority".to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate specifies an incompatible key usage".to_owned()
        }
        other => other.to_string(),
    }
}

/// Go's words for alerts.
fn alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CloseNotify => "close notify",
        AlertDescription::UnexpectedMessage => "unexpected message",
        AlertDescription::BadRecordMac => "bad record MAC",
        AlertDescription::DecryptionFailed => "decryption failed",
        AlertDescription::RecordOverflow => "record overflow",
        AlertDescription::DecompressionFailure => "decompression failure",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::IllegalParameter => "illegal parameter",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::DecodeError => "error decoding message",
        AlertDescription::DecryptError => "error decrypting message",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::InsufficientSecurity => "insufficient security level",
        AlertDescription::InternalError => "internal error",
        AlertDescription::InappropriateFallback => "inappropriate fallback",
        AlertDescription::UserCanceled => "user canceled",
        AlertDescription::NoRenegotiation => "no renegotiation",
        AlertDescription::MissingExtension => "missing extension",
        AlertDescription::UnsupportedExtension => "unsupported extension",
        AlertDescription::UnrecognisedName => "unrecognized name",
        AlertDescription::UnknownPSKIdentity => "unknown PSK identity",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        other => return format!("alert({})", u8::from(other)),
    }
    .to_owned()
}
