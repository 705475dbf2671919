from vidembed.decode.video import probe as probe
