//! Cipher suites and key exchanges: the configuration's names, and what rustls has of them.

use midge_config::Tls;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{CipherSuite, NamedGroup, SupportedCipherSuite};

/// What handshakes choose from, the best first. Suites and curves that rustls hasn't are warnings, unless none is left.
///
/// The order is the server's: a server encrypts for many, on a board that may have no instructions for AES.
pub(crate) fn provider(tls: &Tls, warnings: &mut Vec<String>) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = in_order(provider.cipher_suites, |suite| rank(*suite, has_aes()));
    if !tls.cipher_suites.is_empty() {
        for name in &tls.cipher_suites {
            if !provider.cipher_suites.iter().any(|suite| name_of(*suite) == name) {
                warnings.push(format!("cipher suite {name} is not available; it is not offered"));
            }
        }
        // As in nats-server the list is about TLS 1.2; all suites of TLS 1.3 are good.
        provider.cipher_suites.retain(|suite| {
            suite.tls13().is_some() || tls.cipher_suites.iter().any(|name| name == name_of(*suite))
        });
        if provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()) {
            warnings
                .push("of 'cipher_suites' nothing is left for TLS 1.2; only TLS 1.3 is served".to_owned());
        }
    }
    if !tls.curve_preferences.is_empty() {
        let groups: Vec<_> = tls.curve_preferences.iter().map(|name| (name, group(name))).collect();
        for (name, _) in groups
            .iter()
            .filter(|(_, group)| !provider.kx_groups.iter().any(|offered| Some(offered.name()) == *group))
        {
            warnings.push(format!("curve {name} is not available; it is not offered"));
        }
        let wanted = |offered: NamedGroup| groups.iter().position(|(_, group)| *group == Some(offered));
        provider.kx_groups.retain(|offered| wanted(offered.name()).is_some());
        provider.kx_groups = in_order(provider.kx_groups, |offered| wanted(offered.name()));
        if provider.kx_groups.is_empty() {
            return Err(
                "none of 'curve_preferences' is available: there are X25519, CurveP256 and CurveP384"
                    .to_owned(),
            );
        }
    }
    Ok(provider)
}

/// A short list in the order of what `place` says of each; equals stay in theirs. The library's sort is for long ones, and takes
/// some kilobytes of program for each kind.
fn in_order<T, P: Ord>(list: Vec<T>, place: impl Fn(&T) -> P) -> Vec<T> {
    let mut sorted = Vec::with_capacity(list.len());
    for item in list {
        let at = sorted.partition_point(|other| place(other) <= place(&item));
        sorted.insert(at, item);
    }
    sorted
}

/// Smaller is better. With instructions for AES its short keys are fastest, without them ChaCha20 is by far; TLS 1.3
/// comes before 1.2 and ECDSA before RSA in any case.
fn rank(suite: SupportedCipherSuite, has_aes: bool) -> (bool, bool, u8) {
    let name = name_of(suite);
    let cipher = if name.contains("AES_128_GCM") {
        1
    } else if name.contains("AES_256_GCM") {
        2
    } else if has_aes {
        3
    } else {
        0
    };
    (suite.tls13().is_none(), name.contains("_RSA_"), cipher)
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

/// The registry's name of a suite, which nats-server's configuration uses as well.
pub(crate) fn name_of(suite: SupportedCipherSuite) -> &'static str {
    match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}

fn group(name: &str) -> Option<NamedGroup> {
    match name {
        "X25519" => Some(NamedGroup::X25519),
        "CurveP256" => Some(NamedGroup::secp256r1),
        "CurveP384" => Some(NamedGroup::secp384r1),
        "CurveP521" => Some(NamedGroup::secp521r1),
        "X25519MLKEM768" => Some(NamedGroup::X25519MLKEM768),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(provider: &CryptoProvider) -> Vec<&'static str> {
        provider.cipher_suites.iter().map(|suite| name_of(*suite)).collect()
    }

    #[test]
    fn the_fastest_comes_first() {
        let mut suites = ring::default_provider().cipher_suites;
        suites = in_order(suites, |suite| rank(*suite, true));
        assert_eq!(name_of(suites[0]), "TLS_AES_128_GCM_SHA256");
        suites = in_order(suites, |suite| rank(*suite, false));
        assert_eq!(name_of(suites[0]), "TLS_CHACHA20_POLY1305_SHA256");
        assert!(suites[..3].iter().all(|suite| suite.tls13().is_some()));
    }

    #[test]
    fn a_list_is_about_tls_1_2() {
        let rsa = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384";
        let tls = Tls {
            cipher_suites: vec![rsa.into(), "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA".into()],
            ..Tls::default()
        };
        let mut warnings = Vec::new();
        let provider = provider(&tls, &mut warnings).unwrap();
        assert_eq!(names(&provider).len(), 4);
        assert_eq!(names(&provider)[3], rsa);
        assert_eq!(
            warnings,
            ["cipher suite TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA is not available; it is not offered"]
        );
    }

    #[test]
    fn curves() {
        let of = |names: &[&str]| {
            let curve_preferences = names.iter().map(|name| (*name).to_owned()).collect();
            let mut warnings = Vec::new();
            let provider = provider(&Tls { curve_preferences, ..Tls::default() }, &mut warnings)?;
            let groups: Vec<_> = provider.kx_groups.iter().map(|group| group.name()).collect();
            Ok::<_, String>((groups, warnings.len()))
        };
        assert_eq!(
            of(&["CurveP384", "CurveP521", "X25519"]),
            Ok((vec![NamedGroup::secp384r1, NamedGroup::X25519], 1))
        );
        assert!(of(&["CurveP521"]).is_err());
    }
}
