//! Files of secrets: read as they were written, or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use consilience::store::{SecretError, SecretKind, load_secret, save_secret};

use crate::folder::Temporary;

const SEED: [u8; 32] = [7; 32];

fn saved(folder: &Temporary) -> PathBuf {
    let path = folder.path().join("deep").join("key");
    save_secret(&path, SecretKind::Agent, &SEED).unwrap();
    path
}

fn is_damaged(path: &Path) -> bool {
    matches!(load_secret(path, SecretKind::Agent), Err(SecretError::Damaged { path: named }) if named == path)
}

#[test]
fn a_secret_with_any_bit_flipped_or_byte_missing_is_no_secret() {
    let folder = Temporary::new("secret-flips");
    let path = saved(&folder);
    let whole = fs::read(&path).unwrap();
    assert_eq!(load_secret(&path, SecretKind::Agent).unwrap(), Some(SEED));
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        assert!(is_damaged(&path), "bit {bit}");
    }
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        assert!(is_damaged(&path), "cut at {end}");
    }
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    assert!(is_damaged(&path));
    let text = load_secret(&path, SecretKind::Agent).unwrap_err().to_string();
    assert!(text.contains("key is damaged") && text.contains("another identity"), "{text}");
}

#[test]
fn a_secret_is_never_written_over_and_not_taken_for_another_use() {
    let folder = Temporary::new("secret-once");
    let path = saved(&folder);
    let again = save_secret(&path, SecretKind::Agent, &[8; 32]);
    assert!(matches!(again, Err(SecretError::Exists { .. })), "{again:?}");
    assert_eq!(load_secret(&path, SecretKind::Agent).unwrap(), Some(SEED));
    assert!(matches!(load_secret(&path, SecretKind::Mesh), Err(SecretError::OtherKind { .. })));
    // A start that ended in the middle left this behind.
    let path = folder.path().join("mesh");
    fs::write(folder.path().join("mesh.new"), b"half").unwrap();
    assert_eq!(load_secret(&path, SecretKind::Mesh).unwrap(), None);
    save_secret(&path, SecretKind::Mesh, &[9; 32]).unwrap();
    assert_eq!(load_secret(&path, SecretKind::Mesh).unwrap(), Some([9; 32]));
    assert!(!folder.path().join("mesh.new").exists());
}

#[cfg(unix)]
#[test]
fn a_secret_is_for_its_owner_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Temporary::new("secret-mode");
    let mode = fs::metadata(saved(&folder)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
