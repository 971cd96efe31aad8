//! Client certificates byte by byte: subjects that certificate makers don't make, and that are met all the same.
//!
//! Source: RFC 5280, RFC 5758 (ecdsa-with-SHA256).

use rcgen::{KeyPair, PublicKeyData as _, SigningKey};

use crate::pki::Names;

/// When a certificate is valid: `YYMMDDhhmmssZ`.
pub(crate) type Period = [&'static str; 2];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const IA5: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const OCTETS: u8 = 0x04;
const BITS: u8 = 0x03;

/// ecdsa-with-SHA256.
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// A certificate for `key`, signed by the authority of this common name.
pub(crate) fn certificate(
    names: &Names<'_>,
    [not_before, not_after]: Period,
    key: &KeyPair,
    issuer: &str,
    authority: &impl SigningKey,
) -> Vec<u8> {
    let algorithm = wrap(SEQUENCE, &wrap(OID, ECDSA_SHA256));
    let sets: Vec<u8> = names.subject.iter().flat_map(|set| subject_set(set)).collect();
    let validity = [wrap(UTC_TIME, not_before.as_bytes()), wrap(UTC_TIME, not_after.as_bytes())].concat();
    let mut extensions = extension(EXTENDED_KEY_USAGE, &wrap(SEQUENCE, &wrap(OID, CLIENT_AUTH)));
    let kinds = [(0x81, names.email), (0x82, names.dns), (0x86, names.uri)];
    let alternative: Vec<u8> =
        kinds.iter().flat_map(|(tag, names)| names.iter().flat_map(|it| wrap(*tag, it.as_bytes()))).collect();
    if !alternative.is_empty() {
        extensions.extend(extension(SUBJECT_ALT_NAME, &wrap(SEQUENCE, &alternative)));
    }
    let to_sign = wrap(
        SEQUENCE,
        &[
            wrap(0xa0, &wrap(0x02, &[2])),
            wrap(0x02, &[7]),
            algorithm.clone(),
            wrap(SEQUENCE, &subject_set(&[("CN", issuer)])),
            wrap(SEQUENCE, &validity),
            wrap(SEQUENCE, &sets),
            key.subject_public_key_info(),
            wrap(0xa3, &wrap(SEQUENCE, &extensions)),
        ]
        .concat(),
    );
    let signature = authority.sign(&to_sign).expect("a signature");
    wrap(SEQUENCE, &[to_sign, algorithm, wrap(BITS, &[vec![0], signature].concat())].concat())
}

/// One set of a subject: types as they are usually abbreviated, and values.
fn subject_set(set: &[(&str, &str)]) -> Vec<u8> {
    let mut parts: Vec<_> = set
        .iter()
        .map(|(kind, value)| {
            let (oid, tag): (&[u8], u8) = match *kind {
                "CN" => (&[0x55, 4, 3], UTF8),
                "C" => (&[0x55, 4, 6], UTF8),
                "L" => (&[0x55, 4, 7], UTF8),
                "O" => (&[0x55, 4, 10], UTF8),
                "OU" => (&[0x55, 4, 11], UTF8),
                "DC" => (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 0x19], IA5),
                "emailAddress" => (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], IA5),
                other => panic!("no type {other}"),
            };
            wrap(SEQUENCE, &[wrap(OID, oid), wrap(tag, value.as_bytes())].concat())
        })
        .collect();
    // DER has an order for sets.
    parts.sort();
    wrap(SET, &parts.concat())
}

fn extension(oid: &[u8], value: &[u8]) -> Vec<u8> {
    wrap(SEQUENCE, &[wrap(OID, oid), wrap(OCTETS, value)].concat())
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match content.len() {
        len @ ..0x80 => der.push(len as u8),
        len => {
            let bytes: Vec<u8> = len.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            der.push(0x80 | bytes.len() as u8);
            der.extend(bytes);
        }
    }
    der.extend_from_slice(content);
    der
}
