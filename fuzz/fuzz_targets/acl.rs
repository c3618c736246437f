//! A holder's entry and a required ACL, both as strangers might send them. Whatever they are, the answer comes
//! soon; and a newline is matched by nothing.
#![no_main]

use doorward_proto::acl::{Holder, deciding, granted, well_formed};

libfuzzer_sys::fuzz_target!(|input: (Vec<String>, String, String, String)| {
    let (mut entries, subject, auth_id, session) = input;
    entries.truncate(64);
    let holder = Holder { auth_id: &auth_id, session: &session };
    let decides = deciding(&entries, &subject, holder);
    assert!(decides.is_none_or(|place| place < entries.len()));
    assert_eq!(granted(&entries, &subject, holder), decides.is_some_and(|at| !entries[at].starts_with('!')));
    assert!(!subject.contains('\n') || decides.is_none());
    for entry in &entries {
        // What can be configured and holds nothing but letters grants itself.
        let plain = entry.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
        if plain && well_formed(entry).is_ok() {
            assert!(granted(std::slice::from_ref(entry), entry, holder));
        }
    }
});
