# Threads, a fork with a pipe, a child command and the collector.
total = 4.times.map { |i| Thread.new { (i * 1000...(i + 1) * 1000).sum } }.sum(&:value)
puts "threads #{total}"
reader, writer = IO.pipe
pid = fork do
  reader.close
  writer.write "fork"
end
writer.close
Process.wait pid
puts "#{reader.read} #{$?.exitstatus}"
puts `echo child`
GC.start
puts "collected #{GC.count > 0}"
