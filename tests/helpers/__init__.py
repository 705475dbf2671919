"""What tests share: real videos whose frames carry their number, tiny checkpoints, fault drills."""
