//! Writes the golden and the malformed vectors to where the decoders' targets look for seeds.

#[path = "../../tests/vectors/parse.rs"]
mod parse;

use std::path::Path;
use std::{fs, io};

use parse::parse;

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let vectors = root.join("../tests/vectors");
    let malformed = parse(&fs::read_to_string(vectors.join("malformed.txt"))?);
    for collection in ["map", "set", "context", "coupling"] {
        let corpus = root.join("corpus").join(format!("decode_{collection}"));
        fs::create_dir_all(&corpus)?;
        let golden = parse(&fs::read_to_string(vectors.join(collection).with_extension("txt"))?);
        let near = malformed.iter().filter(|vector| vector.name.starts_with(collection));
        for vector in golden.iter().chain(near) {
            fs::write(corpus.join(vector.name.replace(' ', "_")), &vector.bytes)?;
        }
    }
    Ok(())
}
