//! The metadata by which a reader knows that there is an invoice inside.
//!
//! Factur-X wants four properties in the XMP packet and, as PDF/A-3 does not know them, a
//! description of them. The writer of the PDF has no place for either. So an update is appended, as
//! PDF provides for it: the packet once more with what is missing, and where it is now.

/// The namespace of Factur-X's properties.
const NAMESPACE: &str = "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#";

/// Adds the properties. `None` where the file is not as our writer makes it.
pub(super) fn with_factur_x(pdf: &[u8], file_name: &str) -> Option<Vec<u8>> {
    let begin = find(pdf, b"<?xpacket begin")?;
    let packet_length = find(pdf.get(begin..)?, b"<?xpacket end")?;
    let after = pdf.get(begin.checked_add(packet_length)?..)?;
    let end = find(after, b"?>")?.checked_add(2)?.checked_add(packet_length)?;
    let packet = std::str::from_utf8(pdf.get(begin..begin.checked_add(end)?)?).ok()?;
    let packet = extended(packet, file_name)?;
    let object = object_before(pdf.get(..begin)?)?;

    let trailer = last(pdf, b"trailer")?;
    let tail = std::str::from_utf8(pdf.get(trailer..)?).ok()?;
    let (dictionary, rest) = tail.strip_prefix("trailer")?.split_once("startxref")?;
    let previous = rest.trim().lines().next()?;
    let dictionary = dictionary.trim().strip_suffix(">>")?.trim_end();

    let mut updated = pdf.to_owned();
    if updated.last() != Some(&b'\n') {
        updated.push(b'\n');
    }
    let offset = updated.len();
    let length = packet.len();
    updated.extend_from_slice(
        format!(
            "{object} 0 obj\n<< /Type /Metadata /Subtype /XML /Length {length} >>\nstream\n\
             {packet}\nendstream\nendobj\n"
        )
        .as_bytes(),
    );
    let table = updated.len();
    updated.extend_from_slice(
        format!(
            "xref\n{object} 1\n{offset:010} 00000 n \ntrailer\n{dictionary} /Prev {previous} >>\n\
             startxref\n{table}\n%%EOF\n"
        )
        .as_bytes(),
    );
    Some(updated)
}

/// The packet with the properties and, in the list of descriptions, theirs.
fn extended(packet: &str, file_name: &str) -> Option<String> {
    let list = packet.find("pdfaExtension:schemas")?;
    let list_end = list.checked_add(packet.get(list..)?.find("</rdf:Bag>")?)?;
    let rdf_end = packet.rfind("</rdf:RDF>")?;
    let property = |name: &str, words: &str| {
        format!(
            "<rdf:li rdf:parseType=\"Resource\"><pdfaProperty:name>{name}</pdfaProperty:name>\
             <pdfaProperty:valueType>Text</pdfaProperty:valueType>\
             <pdfaProperty:category>external</pdfaProperty:category>\
             <pdfaProperty:description>{words}</pdfaProperty:description></rdf:li>"
        )
    };
    let described = format!(
        "<rdf:li xmlns:pdfaSchema=\"http://www.aiim.org/pdfa/ns/schema#\" \
         xmlns:pdfaProperty=\"http://www.aiim.org/pdfa/ns/property#\" rdf:parseType=\"Resource\">\
         <pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>\
         <pdfaSchema:namespaceURI>{NAMESPACE}</pdfaSchema:namespaceURI>\
         <pdfaSchema:prefix>fx</pdfaSchema:prefix><pdfaSchema:property><rdf:Seq>{}{}{}{}</rdf:Seq>\
         </pdfaSchema:property></rdf:li>",
        property("DocumentFileName", "The name of the embedded XML document"),
        property("DocumentType", "The type of the hybrid document"),
        property("Version", "The version of the standard of the embedded XML document"),
        property("ConformanceLevel", "The conformance level of the embedded XML document"),
    );
    let properties = format!(
        "<rdf:Description rdf:about=\"\" xmlns:fx=\"{NAMESPACE}\">\
         <fx:DocumentType>INVOICE</fx:DocumentType>\
         <fx:DocumentFileName>{file_name}</fx:DocumentFileName><fx:Version>1.0</fx:Version>\
         <fx:ConformanceLevel>EN 16931</fx:ConformanceLevel></rdf:Description>"
    );
    let (before, after) = (packet.get(..list_end)?, packet.get(rdf_end..)?);
    let between = packet.get(list_end..rdf_end)?;
    Some(format!("{before}{described}{between}{properties}{after}"))
}

/// The number of the object that begins last.
fn object_before(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.get(..last(bytes, b" 0 obj")?)?;
    let from = digits.iter().rposition(|byte| !byte.is_ascii_digit())?.checked_add(1)?;
    std::str::from_utf8(digits.get(from..)?).ok()?.parse().ok()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn last(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).rposition(|window| window == what)
}
