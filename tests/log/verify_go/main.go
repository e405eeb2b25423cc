// Verifies a log directory, a grown log and single proofs with the code of sum.golang.org (golang.org/x/mod/sumdb),
// which shares nothing with the gateway. Says "ok ..." or what failed, and ends with 1 then.
//
//	main log DIR VKEY [OLDER_CHECKPOINT]
//	main proof VKEY PROOF_FILE ENTRY_FILE
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// tiles reads C2SP paths, which leave out the height and call the record level "entries".
type tiles struct{ dir string }

func (t tiles) Height() int                                { return height }
func (t tiles) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

func (t tiles) read(tile tlog.Tile) ([]byte, error) {
	name := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
	name = strings.Replace(name, "tile/data/", "tile/entries/", 1)
	data, err := os.ReadFile(filepath.Join(t.dir, name))
	if errors.Is(err, os.ErrNotExist) && tile.W < 1<<height {
		full := tile
		full.W = 1 << height
		return t.read(full)
	}
	return data, err
}

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		data, err := t.read(tile)
		if err != nil {
			return nil, err
		}
		if len(data) < tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s is too short", tile.Path())
		}
		found = append(found, data[:tile.W*tlog.HashSize])
	}
	return found, nil
}

func (t tiles) entries(n, size int64) ([][]byte, error) {
	width := size - n<<height
	if width > 1<<height {
		width = 1 << height
	}
	data, err := t.read(tlog.Tile{H: height, L: -1, N: n, W: int(width)})
	var found [][]byte
	for err == nil && int64(len(found)) < width {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			return nil, fmt.Errorf("bundle %d ends early", n)
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		found = append(found, data[2:end])
		data = data[end:]
	}
	return found, err
}

func checkpoint(data []byte, key string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return tlog.Tree{}, err
	}
	signed, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, errors.New("not a checkpoint of this origin")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	hash, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: hash}, err
}

func verifyLog(dir, key string, older string) error {
	data, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := checkpoint(data, key)
	if err != nil {
		return err
	}
	files := tiles{dir}
	reader := tlog.TileHashReader(tree, files)
	for n := int64(0); n<<height < tree.N; n++ {
		entries, err := files.entries(n, tree.N)
		if err != nil {
			return err
		}
		var indexes []int64
		for i := range entries {
			indexes = append(indexes, tlog.StoredHashIndex(0, n<<height+int64(i)))
		}
		hashes, err := reader.ReadHashes(indexes)
		if err != nil {
			return err
		}
		for i, entry := range entries {
			if tlog.RecordHash(entry) != hashes[i] {
				return fmt.Errorf("entry %d does not hash to its leaf", n<<height+int64(i))
			}
		}
	}
	root, err := tlog.Hash(sha256.Sum256(nil)), error(nil) // older versions of x/mod give zeros for the empty tree
	if tree.N > 0 {
		root, err = tlog.TreeHash(tree.N, reader)
	}
	if err != nil || root != tree.Hash {
		return fmt.Errorf("the tiles do not hash to the root: %v", err)
	}
	for index := int64(0); index < tree.N; index += tree.N/50 + 1 {
		hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return err
		}
		proof, err := tlog.ProveRecord(tree.N, index, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, hashes[0]); err != nil {
			return err
		}
	}
	grown := int64(0)
	if older != "" {
		data, err := os.ReadFile(older)
		if err != nil {
			return err
		}
		before, err := checkpoint(data, key)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveTree(tree.N, before.N, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash); err != nil {
			return err
		}
		grown = before.N
	}
	fmt.Printf("ok %d entries, grown from %d\n", tree.N, grown)
	return nil
}

func verifyProof(key, proofFile, entryFile string) error {
	data, err := os.ReadFile(proofFile)
	if err != nil {
		return err
	}
	entry, err := os.ReadFile(entryFile)
	if err != nil {
		return err
	}
	head, signed, found := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		return errors.New("not a tlog-proof")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		raw, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(raw) != tlog.HashSize {
			return errors.New("a line of the proof is no hash")
		}
		var hash tlog.Hash
		copy(hash[:], raw)
		proof = append(proof, hash)
	}
	tree, err := checkpoint(signed, key)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
		return err
	}
	fmt.Printf("ok entry %d of %d\n", index, tree.N)
	return nil
}

func main() {
	arguments := append(os.Args[1:], "", "", "")
	var err error
	switch arguments[0] {
	case "log":
		err = verifyLog(arguments[1], arguments[2], arguments[3])
	case "proof":
		err = verifyProof(arguments[1], arguments[2], arguments[3])
	default:
		err = errors.New("log or proof?")
	}
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}
