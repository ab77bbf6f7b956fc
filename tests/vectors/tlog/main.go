// Reads a ledger with the packages that Go uses for its checksum database, and nothing of ours.
//
//	tlog DIR VKEY           every entry, every proof
//	tlog note FILE VKEY...  how many of the keys have signed
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func check(err error) {
	if err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
}

type folder string

func (f folder) Height() int                        { return 8 }
func (f folder) SaveTiles(_ []tlog.Tile, _ [][]byte) {}

func (f folder) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		found, err := f.read(strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		if err != nil {
			return nil, err
		}
		data = append(data, found)
	}
	return data, nil
}

func (f folder) read(path string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(f), path))
}

func bundle(f folder, first, width int64) (entries [][]byte) {
	tile := tlog.Tile{H: 8, L: -1, N: first / 256, W: int(width)}
	data, err := f.read(strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1))
	check(err)
	for len(data) > 0 {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			check(fmt.Errorf("bundle %d is cut short", first/256))
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		entries, data = append(entries, data[2:end]), data[end:]
	}
	if int64(len(entries)) != width {
		check(fmt.Errorf("bundle %d has %d entries", first/256, len(entries)))
	}
	return entries
}

func signatures(path string, vkeys []string) {
	data, err := os.ReadFile(path)
	check(err)
	var known []note.Verifier
	for _, vkey := range vkeys {
		verifier, err := note.NewVerifier(vkey)
		check(err)
		known = append(known, verifier)
	}
	opened, err := note.Open(data, note.VerifierList(known...))
	check(err)
	fmt.Println(len(opened.Sigs))
}

func main() {
	if os.Args[1] == "note" {
		signatures(os.Args[2], os.Args[3:])
		return
	}
	f := folder(os.Args[1])
	verifier, err := note.NewVerifier(os.Args[2])
	check(err)
	data, err := f.read("checkpoint")
	check(err)
	opened, err := note.Open(data, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(opened.Text, "\n")
	if lines[0] != verifier.Name() {
		check(fmt.Errorf("origin %q", lines[0]))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := tlog.ParseHash(lines[2])
	check(err)
	hashes := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, f)
	for first := int64(0); first < size; first += 256 {
		entries := bundle(f, first, min(256, size-first))
		var indexes []int64
		for place := range entries {
			indexes = append(indexes, tlog.StoredHashIndex(0, first+int64(place)))
		}
		found, err := hashes.ReadHashes(indexes)
		check(err)
		for place, entry := range entries {
			if found[place] != tlog.RecordHash(entry) {
				check(fmt.Errorf("entry %d", first+int64(place)))
			}
		}
	}
	for _, old := range []int64{1, 2, 255, 256, 257, size / 2, size - 1} {
		if old < 1 || old > size {
			continue
		}
		before, err := tlog.TreeHash(old, hashes)
		check(err)
		proof, err := tlog.ProveTree(size, old, hashes)
		check(err)
		check(tlog.CheckTree(proof, size, root, old, before))
	}
	fmt.Println("ok", size)
}
