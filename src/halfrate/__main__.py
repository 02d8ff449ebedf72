from halfrate.cli import main

main()
