# Of the functions that readelf lists, those that startup.order means, in its order. A name there is without the hashes that change
# with every compiler and every dependency; which of a generic function's instances is meant, its size tells.

function plain(name) {
    sub(/\.llvm\.[0-9]+$/, "", name)
    sub(/17h[0-9a-f]+E$/, "", name)
    gsub(/Cs[0-9A-Za-z]+_/, "Cs_", name)
    return name
}

function distance(a, b) { return a > b ? a - b : b - a }

FNR == NR { size[++wanted] = $1; name[wanted] = $2; known[$2] = 1; next }

# Number, value, size, type, binding, visibility, section, name.
$4 == "FUNC" && $7 != "UND" {
    key = plain($8)
    if (key in known) { instance[key, ++instances[key]] = $8; bytes[key, instances[key]] = $3 + 0 }
}

END {
    for (i = 1; i <= wanted; i++) {
        key = name[i]
        # A function of the C library is in none of the files that were listed.
        if (!instances[key]) print key
        least = -1
        for (n = 1; n <= instances[key]; n++) {
            d = distance(bytes[key, n], size[i])
            if (least < 0 || d < least) least = d
        }
        for (n = 1; n <= instances[key]; n++)
            if (distance(bytes[key, n], size[i]) == least && !printed[instance[key, n]]++) print instance[key, n]
    }
}
