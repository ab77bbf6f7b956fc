"""What: the files of a model, what they are, what they may not be, and how they load.

`files.Files` is the one seam: a folder, a dict and a sealed package look alike, so each
format is written once. `inspection` decides what is refused before anything is sealed or
released; `loading` turns files into objects of a framework; `manifest` is the signed list.
"""
